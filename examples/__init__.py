"""Applications that use `scsession_secure`. Each one runs as it is, and is tested."""
