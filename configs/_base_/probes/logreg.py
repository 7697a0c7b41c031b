# Logistic regression as CAPI evaluates (arXiv 2502.08769, table 3 and appendix): the majority label of each patch by
# L-BFGS with memory 5.
_base_ = './fitted.py'

test_cfg = dict(
    probe=dict(
        type='mmmim.LogisticRegressionProbe',
        c=[10 ** (-6 + 11 * i / 7) for i in range(8)],  # 1e-6 to 1e5
        max_iter=1000,
        tolerance=1e-12,
        standardize='once',
    ),
)
