# Weighted k-NN of whole images as DINO evaluates (arXiv 2104.14294, section 4.1): of the nearest training images by
# cosine each votes with exp(similarity / 0.07), and every number of neighbours is tested in one search.
_base_ = './fitted.py'

model = dict(features='pooled')
test_cfg = dict(
    choose_by=None,
    probe=dict(type='mmmim.WeightedKNNProbe', k=[10, 20, 100, 200], temperature=0.07, leave_one_out=False),
)
test_evaluator = [dict(type='mmmim.AcceptedAccuracy', topk=(1, 5))]
default_hooks = dict(pictures=None)
