# The nearest neighbour of an image among the other test images, as Latent MIM evaluates (arXiv 2407.15837, table 1): by
# cosine, of the average of the patch tokens before the final norm.
_base_ = './cls_knn.py'

model = dict(features='pooled_raw')
test_cfg = dict(probe=dict(k=[1], leave_one_out=True))
test_evaluator = [dict(type='mmmim.AcceptedAccuracy', topk=(1,))]
