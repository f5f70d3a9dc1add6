"""What a model, an example and a function are: how they are told apart, and bound to names."""
