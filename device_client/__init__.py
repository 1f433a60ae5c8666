import shared_models  # noqa: F401 - what it sets must stand before gRPC is imported
