# Logistic regression of logreg.py on whole images; the penalty is chosen by the accuracy on held-out images.
_base_ = './logreg.py'

model = dict(features='pooled')
test_cfg = dict(choose_by='aAcc')
test_evaluator = [dict(type='mmmim.AcceptedAccuracy', topk=(1,))]
default_hooks = dict(pictures=None)
