"""A frozen encoder in every form."""
