"""Results as renderables: pure functions, testable at a fixed width."""
