"""The knobs of a fine-tuning; without Keras, so that a run can be set up quickly."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FineTuning:
    """Every knob of a fine-tuning; a version's manifest keeps them.

    Attributes:
        copies: varied copies of each new face beside the face itself.
        strength: how far they are varied, as a multiple of the training's own variation.
        learning_rate: AdamW's, falling to a tenth along a cosine.
        head_learning_rate: the same where the tail is the last layer alone, which needs more.
        weight_decay: AdamW's.
        rounds: passes, each followed by a look at the part held back.
        steps: batches of a round.
        batch: activations in a batch.
        new_share: part of a batch that is new faces; the rest is replayed.
        class_balance: 1 draws new faces evenly from all labels, 0 as they come.
        replay_balance: the same for replayed faces: 1 draws them evenly, 0 in the proportions of
            the base hold-out, so that the champion's sense of what is common is kept.
        smoothing: probability spread over the other labels of a new face.
        trust: weight of the operator's label in a new face's target where the champion is right
            about every new face; its own answer has the rest, which softens a wrong label. The
            less often it is right, the less its answer counts.
        domains: whether answers are corrected for visitors' pictures alone; see
            `fer.learning.domains`.
        domain_trust: as `trust`, where this correction is fitted.
        distillation: weight of the champion's answers in the targets of replayed faces.
        mixtures: activations between two replayed ones, answered by the champion, for each
            replayed one; they make up half of what is replayed. 0: none.
        held_back: part of the groups, and of the replayed faces, that early stopping looks at.
        forgetting: weight of the replayed faces against the new ones there.
        fewest_rounds: rounds that it takes at least: while the rate is high the base pays more, and
            what is held back is too little to tell.
        average: the weights that are looked at are the mean over the last such part of the rounds
            so far, which forgets less than those of one round; 0 takes the last round alone.
        patience: rounds without a better value there before it ends.
        interpolate: whether to mix the champion's weights with the fine-tuned ones.
        largest_mix: largest share of the fine-tuned weights where the champion is right about every
            new face: beyond it the base loses faster than new people gain. The less often it is
            right, the nearer to 1: a camera that it cannot read at all asks for a large step.
            With a domain gate, behind which most of it is won, the square of how often it is wrong.
        shares: how far the shares of the labels among replayed faces are put back to what they are
            with the champion's weights, 0…1: visitors may show other expressions more often than
            base faces do, and what is common there must not change for it. Less where the champion
            is right about less than half of the new faces.
        average_folds: whether the challenger's weights are averaged with those of the cross-fit.
        seed: of every random choice.
    """

    copies: int = 8
    strength: float = 1.0
    learning_rate: float = 2e-4
    head_learning_rate: float = 3e-3
    weight_decay: float = 0.01
    rounds: int = 3
    steps: int = 30
    batch: int = 128
    new_share: float = 0.15
    class_balance: float = 1.0
    replay_balance: float = 0.0
    smoothing: float = 0.1
    trust: float = 0.4
    domains: bool = True
    domain_trust: float = 0.8
    distillation: float = 1.0
    mixtures: float = 1.0
    held_back: float = 0.15
    forgetting: float = 0.5
    fewest_rounds: int = 2
    average: float = 0.5
    patience: int = 2
    interpolate: bool = True
    largest_mix: float = 0.55
    shares: float = 1.0
    average_folds: bool = True
    seed: int = 0
