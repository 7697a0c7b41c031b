# Labels of the first frame of a video, carried on by the features of patches and tested by tools/test.py, without
# training: DINO's settings (arXiv 2104.14294, section 4.2.1 and the released script). Features of the last block,
# final-normed. Numbers of the encoder are filled in by --pretrained.
_base_ = './fitted.py'

test_cfg = dict(
    _delete_=True,
    type='mmmim.PropagationTestLoop',
    short_side=480,
    propagation=dict(
        context=7,
        radius=12,
        shape='square',
        topk=5,
        keep_ties=True,
        temperature=0.1,
        free_first=False,
        repeat_first=False,
        min_max=True,
        first_labels='nearest',
        upsample='input',
    ),
)
test_evaluator = [dict(type='mmmim.VideoObjectScores')]

default_hooks = dict(pictures=None)
