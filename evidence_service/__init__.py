"""Decides whether Citrix FAS may go ahead, on the evidence of a SAML Response."""
