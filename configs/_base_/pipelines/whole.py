# Whole images at the size that they have, without crop and flip: those of FashionScenes, of 32 or 64 pixels.
train_pipeline = [dict(type='mmmim.LoadImage'), dict(type='mmpretrain.PackInputs')]
val_pipeline = train_pipeline
