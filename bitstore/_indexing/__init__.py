"""Where the digests of a membership index come from: lists, live listings, inventories of a bucket."""
