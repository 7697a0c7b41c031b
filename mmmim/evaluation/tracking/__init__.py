"""Objects of a video followed by the features of a frozen encoder."""
