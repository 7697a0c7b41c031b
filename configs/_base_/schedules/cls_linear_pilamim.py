# The linear probe of PiLaMIM (Lee et al., 2025, table 5, and its released code): LARS whose first step counts its
# gradient twice and whose ratios are of momenta, biases included; learning rate 3 whatever the batch; 100 epochs, the
# lower one of a warm-up of 10 epochs and a cosine from the first on, constant within an epoch.
_base_ = '../classification_runtime.py'

optim_wrapper = dict(
    type='mmengine.OptimWrapper',
    constructor='mmmim.RuleOptimWrapperConstructor',
    optimizer=dict(type='mmmim.LARS', lr=3.0, momentum=0.9, weight_decay=0.0, repeat_first=True),
)
param_scheduler = dict(
    type='mmmim.ScheduleLR',
    by_epoch=False,
    schedule=dict(type='mmmim.epochwise_min_cosine', epochs=100, warmup_epochs=10),
)
train_cfg = dict(type='mmmim.EpochsTrainLoop', max_epochs=100)
