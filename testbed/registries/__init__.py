"""A real registry server, images without a builder, and a token server."""
