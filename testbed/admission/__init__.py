"""The admission servers that ours is compared with, and the load: pinned here, built once into a cache."""
