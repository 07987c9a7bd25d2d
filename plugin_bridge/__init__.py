"""What runs beside FAS, and what a deployment is tested with from anywhere."""
