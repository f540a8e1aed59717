"""The inference service's place. Nothing is served yet; its import contract is already held."""
