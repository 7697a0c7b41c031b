# cls_logreg_imagenet.py fitted on 16 images of each class, which a seed chooses as few-shot transfer does (CoOp, arXiv
# 2109.01134). Latent MIM (arXiv 2407.15837, table 7) trains its classifier by SGD instead: scores of this regression
# are ours, and not to be compared with its.
#
# A tenth of the images of the classes chooses the penalty. Other numbers and images:
# --cfg-options fit_dataloader.dataset.shots=4 fit_dataloader.dataset.seed=2
#
# Run: MMMIM_DATA=dtd_coop python tools/test.py configs/eval/cls_logreg_fewshot_imagenet.py --pretrained CHECKPOINT
_base_ = './cls_logreg_imagenet.py'

fit_dataloader = dict(
    dataset=dict(_delete_=True, type='mmmim.FewShot', shots=16, seed=1, dataset=_base_.fit_dataloader.dataset),
)
