"""The attack and interop corpus as a product: small functions, compiled to data that every door is tried with."""
