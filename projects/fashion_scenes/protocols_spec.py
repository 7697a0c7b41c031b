# What tools/misc/compare.py scores by six protocols of the papers: the trainings of whole methods of spec.py, which in
# one work folder are made once for both, up to the supervised one. Random weights under fine-tuning are a supervised
# training.
_base_ = './spec.py'

title = 'FashionScenes: six protocols'
scores = dict(_delete_=True, weights='student', suite='projects/fashion_scenes/protocols_suite.py')
figure_scores = ['knn', 'attentive', 'finetuning']
table_scores = []
arguments = []
subsets = dict(
    _delete_=True,
    single={
        # I-JEPA was scored before its rate was lowered.
        name: {**arm, 'options': {'optim_wrapper.optimizer.lr': 1e-3}} if name == 'I-JEPA' else arm
        for name, arm in list(_base_.subsets.single.items())[: list(_base_.subsets.single).index('supervised') + 1]
        if arm.get('watch') or name in ('random init, ViT', 'random init, RoPE ViT', 'supervised')
    },
)
