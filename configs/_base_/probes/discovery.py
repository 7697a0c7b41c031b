# Object discovery: one box of each image, scored by CorLoc. Images have their own size and are padded with zeros, after
# normalisation, to multiples of the patch size, as in LOST (arXiv 2109.14279) and TokenCut (arXiv 2202.11539); where
# that is far from what the encoder was trained on, model.resize=480 brings the shorter side to a size.
_base_ = './label_free.py'

model = dict(fit='pad')
test_evaluator = [dict(type='mmmim.CorLoc')]
