"""Evidence: the paper's experiments and ablations as plans of commands, run, measured and laid side by side.

``plan`` and ``runner`` say what a plan is and run one; ``budgets``, ``protocols`` and ``ablation`` make plans;
``scores``, ``tables`` and ``figures`` show what came of them. ``seams``, ``patches_alone`` and ``interactions`` are the
measures that belong to the network itself and not to a report.
"""
