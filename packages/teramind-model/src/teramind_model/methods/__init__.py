"""Methods: networks that ``teramind-model`` trains and generates with, each behind the same Protocol.

``protocol`` says what a method is, ``registry`` finds one by name, ``tera_mind`` is the paper's; the baselines it is
compared with live in ``teramind_model.baselines``. Others come as packages that name themselves in the entry-point
group ``teramind.models``.
"""
