"""The rows of the standards that docs/asvs-v7.md and docs/standards.md list, where no other test shows them."""
