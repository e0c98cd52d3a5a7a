"""The arithmetic of the merge methods: pure functions on float32 tensors, one file a family."""
