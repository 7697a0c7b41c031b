"""Pictures of features, attention, reconstructions, segmentations and curves."""
