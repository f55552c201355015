"""Score the people of labelled pairs by the number of references that a probe is compared with."""

from kryptonite.data.references import RECORDING, draw_trials
from kryptonite.fusion.guard import cross_fit_as
from kryptonite.fusion.references import verifier_of
from kryptonite.inference.pipeline import Pipeline
from kryptonite.inference.references import pool_trials
from kryptonite.report.references import ReferenceScores, ScoredTrials
from kryptonite.runs.assess import Assessment
from kryptonite.runs.run_dir import RunDir

COUNTS = (1, 3, 5, 10)
FORGED_AMONG = 5  # references, one of which is a forgery
TRIALS = {"same": 2000, "different": 2000, "synthetic": 2000}
PEOPLE = 8  # fewer say nothing about a number of references


def score_references(
    pipeline: Pipeline, run: RunDir, assessment: Assessment
) -> ReferenceScores | None:
    """Draws references among the photos of assessed pairs and scores probes against them.

    All numbers of references are measured on the same probes: those with as many references as the
    largest number takes, and with a forgery of the claimed person that is not the probe. Photos
    without a face are left out. Fusions that have seen the images are refitted as in `assess`.

    Args:
        pipeline: The run, loaded.
        run: Its folder.
        assessment: What `assess` returned.

    Returns:
        None where the run is not calibrated for several references, or too few people have enough
        photos.
    """
    if not pipeline.several:
        return None
    images = assessment.scored.images
    images = images[~images["failed"]].reset_index(drop=True)
    known = run.read_images().drop_duplicates("key").set_index("key")
    if RECORDING in known:
        images[RECORDING] = images["key"].map(known[RECORDING]).fillna("")
    labels = images["label"].to_numpy(str)
    drawn = draw_trials(images, max(COUNTS), TRIALS)
    drawn = drawn.rows(drawn.forged >= 0)
    counts = [count for count in drawn.counts(labels, PEOPLE) if count in COUNTS]
    if len(counts) < 2:
        return None
    drawn = drawn.rows(drawn.having(counts[-1]))
    claimed = labels[drawn.references[:, 0]]
    content = assessment.features.rows(images["path"])
    folds = run.read_config()["fusion"]["folds"]
    groups = drawn.kind, labels[drawn.probe], claimed
    sets = {0: (drawn, counts)}
    if FORGED_AMONG in counts:
        sets[1] = drawn.forged_first(), [FORGED_AMONG]
    scored, fitted = [], {}
    for forged, (trials, numbers) in sets.items():
        pooled = pool_trials(
            assessment.features.features, pipeline.differential, trials.mapped(content), numbers
        )
        for count in numbers:
            evidence = pooled.evidence[count]
            verifier = verifier_of(count, pipeline.verifier, pipeline.several)
            if count not in fitted:
                fitted[count] = verifier.fuser.score
                if assessment.cross_fitted:
                    fitted[count] = cross_fit_as(verifier.fuser, evidence, *groups, folds).score
            score = fitted[count](evidence)
            scored.append(
                ScoredTrials(
                    count,
                    forged,
                    {"system": score, "alone": evidence.similarity},
                    verifier.threshold,
                    verifier.fuser.llr(score),
                )
            )
    return ReferenceScores(*groups, scored)
