"""The passes. Each file holds one; its pydantic config is the pass. `catalog.py` lists them."""
