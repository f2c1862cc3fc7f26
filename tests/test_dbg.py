import pytest, json
from conftest import *
from recbole_llm_interest.runner import run
from recbole_llm_interest.recommender import Recommender
@pytest.mark.parametrize("extra", [{}, {"epochs":40}, {"content_neighbours":0}, {"seed":1},{"seed":2},{"seed":1,"content_neighbours":0},{"seed":2,"content_neighbours":0}, {"seed":1,"epochs":40},{"seed":2,"epochs":40}])
def test_a(here, feature_cache, extra):
    titles = {f"i{n}": f"A film about {subject}" for n, subject in enumerate(SUBJECTS)}
    write_dataset(here / "data", "cycle", cycle_events(), titles, {f"u{n}": "librarian" for n in range(24)})
    settings = {**QUICK, "data_path": str(here / "data"), "feature_cache": str(feature_cache), "epochs": 25,
                "learning_rate": 0.03, "checkpoint_dir": str(here / "saved"), "text_encoder":"hashing", **extra}  # fmt: skip
    (r,) = run(["LLMInterest"], "cycle", config_dict=settings)
    rec = Recommender.load(here / r.checkpoint)
    print("RES", extra, r.test, [rec.recommend(rec.start(history=[f"i{n}",f"i{(n+1)%8}"]),3)[0].item for n in range(8)])
