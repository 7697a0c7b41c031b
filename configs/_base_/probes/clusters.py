# Clusters of the patches of each image (Latent MIM, arXiv 2407.15837, figures 6, 9 and 11), matched with its classes.
# The paper shows pictures alone: linkage, numbers of clusters, size of the images, block and the score are this
# toolbox's choice. Images are brought to a shorter side of 480 and to the nearest multiples of the patch size.
_base_ = './label_free.py'

model = dict(resize=480, fit='round')
test_cfg = dict(probe=dict(type='mmmim.PatchClusters', clusters=[2, 4, 8, 'classes'], linkage='ward'))
test_evaluator = [dict(type='mmmim.MatchedIoU')]
