# depth_nyuv2.py with surface normals in the place of depths: of planes that are fitted to the depths of 9 x 9 pixels by
# the intrinsics of the colour camera. Files of normals instead, normals/SPLIT/NAME.png: --cfg-options
# fit_dataloader.dataset.normals=True fit_dataloader.dataset.pipeline.2.source=file and the same of test_dataloader.
_base_ = './depth_nyuv2.py'

pipeline = _base_.fit_dataloader.dataset.pipeline
pipeline[2] = dict(
    type='mmmim.LoadNormals', source='depth', camera=(518.8579, 519.4696, 325.5824, 253.7362), radius=4, residual=0.03
)
fit_dataloader = dict(dataset=dict(pipeline=pipeline))
test_dataloader = dict(dataset=dict(pipeline=pipeline))
del pipeline  # not a key of the config
