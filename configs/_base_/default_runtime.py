default_scope = 'mmmim'

default_hooks = dict(
    runtime_info=dict(type='mmmim.RuntimeInfoHook'),
    timer=dict(type='mmengine.IterTimerHook'),
    logger=dict(type='mmengine.LoggerHook', interval=50, log_metric_by_epoch=False),
    param_scheduler=dict(type='mmengine.ParamSchedulerHook'),
    checkpoint=dict(type='mmmim.CheckpointHook', by_epoch=False, interval=10000, max_keep_ckpts=3),
    sampler_seed=dict(type='mmengine.DistSamplerSeedHook'),
    health=dict(type='mmmim.HealthHook', interval=1000),
    # Scores features where the config has labelled images, probe_data, and by fitted protocols of configs/eval.
    probe=dict(type='mmmim.ProbeHook', interval=10000, protocols=[], protocol_interval=None),
)
custom_hooks = [
    dict(type='mmmim.StepSeedHook'),
    dict(type='mmmim.TrainingInfoHook'),
    dict(type='mmmim.CurvesHook'),
    dict(type='mmmim.PicturesHook'),
    dict(type='mmmim.ReportHook'),
]

env_cfg = dict(
    cudnn_benchmark=False,
    mp_cfg=dict(mp_start_method='fork', opencv_num_threads=0),
    dist_cfg=dict(backend='nccl'),
)

# Of several processes. None: data parallelism. 'mmmim.FSDP2Strategy': the model is divided among them, for models that
# do not fit.
strategy = dict(type=None)

visualizer = dict(type='mmengine.Visualizer', vis_backends=[dict(type='mmengine.LocalVisBackend')])
# Means over one logging interval: on a GPU the time of single iterations says little.
log_processor = dict(type='mmengine.LogProcessor', by_epoch=False, window_size=50)
log_level = 'INFO'

randomness = dict(seed=0, deterministic=False)
load_from = None
resume = False
# True also loads checkpoints that contain Python objects, which can run any code.
trust_checkpoint = False
