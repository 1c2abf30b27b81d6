"""What demo and tests need besides the product: pinned tools, a local cluster, the steps behind make."""
