"""Lists of hashes without pictures: how often they match harmless ones."""
