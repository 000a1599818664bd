# SPDX-License-Identifier: Apache-2.0
"""Cross-consistency training on several domains: Ouali et al., CVPR 2020.

Data sets with other images and other classes share an encoder; each has a main
decoder and K auxiliary decoders of its own. A step is a round: the domains
take turns, each with a batch of its own, as many images as the others, and an
update of the encoder and of its own decoders that lowers its own loss

    L = L_s + ramp * unsup_weight * L_u + adversarial_weight * L_adv

L_s and L_u are those of `methods.cct`, see `families.cross_consistency`. With
one domain a round is a step of it.

L_adv aligns the domains (supplement 5), if `adversarial_weight` is positive
(0.02 there, where it made the results worse): a discriminator learns to tell
of each pixel of the encoder's top feature z which domain it comes from, the
encoder, behind a gradient reversal, to prevent that:

    L_adv = mean over pixels of  ce(discriminator(reverse(z)), domain)

over labeled and unlabeled images, without padding. Both learn with the weight
of L_adv, as in equation (6). Equation (5) as printed, log(g_d) of one domain
plus 1 - log(g_d) of the other, has no upper bound, and grows where g_d says the
opposite of the text, "0 for examples from D(1) and 1 for examples from D(2)".
That text is this cross-entropy, here of any number of domains. The table of the
discriminator gives no slope of its LeakyReLU: here 0.2, that of the one which
it is said to be similar to (Hung et al., BMVC 2018). As an update shows it one
domain alone, an optimizer whose steps do not shrink with the weight of a loss
(Adam) makes it swing at first.

BatchNorm of the encoder normalizes a batch by its own statistics, which are
those of one domain; its moving statistics take a step with each batch, so that
they are of all domains together. Those of a decoder are of its domain.

The optimizer counts updates, `updates_per_step` in a step. The official code
for several domains is not published.
"""

import tensorflow as tf
from tensorflow import keras

from tfseg.methods.families import checks, cross_consistency
from tfseg.ops import gradient_reversal, losses

# Table 5 of the supplement.
_FILTERS = (64, 128, 256, 512)
_SLOPE = 0.2


class CCTDomains(cross_consistency.CrossConsistency):
    """Cross-consistency training on several domains.

    Args:
      build_networks: mapping, domain -> () -> network; the same encoder in
        all, the classes of the domain. The first network stays as it is
        built, of the others the decoders do, on its encoder.
      adversarial_weight: factor of L_adv; 0 = no discriminator.
      **shared: those of `families.cross_consistency`.
    """

    SCALARS = ("loss", "loss_sup", "loss_unsup")
    SEVERAL_DOMAINS = True

    def __init__(self, build_networks, *, adversarial_weight, **shared):
        checks.not_negative("adversarial_weight", adversarial_weight)
        names = self.SCALARS
        if adversarial_weight:
            names = (*names, "loss_adversarial")
        self.SCALARS = (
            *names,
            *(
                f"{name}/{domain}"
                for domain in build_networks
                for name in names
            ),
        )
        super().__init__(**shared)
        self.adversarial_weight = adversarial_weight
        self.updates_per_step = len(build_networks)
        self.domain_networks = _sharing(build_networks)
        self.auxiliary = {
            domain: self.new_auxiliary(network)
            for domain, network in self.domain_networks.items()
        }
        self.discriminator = (
            _discriminator(self.encoder, self.updates_per_step)
            if adversarial_weight
            else None
        )

    @property
    def networks(self):
        return dict(self.domain_networks)

    @property
    def deployed(self):
        return next(iter(self.domain_networks.values()))

    @property
    def encoder(self):
        return self.deployed.encoder

    @property
    def trained(self):
        every = {
            variable.ref(): variable
            for domain in self.domain_networks
            for variable in self.trained_by(domain)
        }
        return list(every.values())

    def trained_by(self, domain):
        """Variables that the update of a domain changes."""
        parts = [self.domain_networks[domain], *self.auxiliary[domain]]
        if self.discriminator:
            parts.append(self.discriminator)
        return [v for part in parts for v in part.trainable_variables]

    def train_step(self, batch):
        reports = {}
        for place, (domain, network) in enumerate(self.domain_networks.items()):
            labeled = batch[domain]["labeled"]
            unlabeled = batch[domain]["unlabeled"]
            with tf.GradientTape() as tape:
                features = [
                    self.encoder(part["image"], training=True)
                    for part in (labeled, unlabeled)
                ]
                logits = network.decoder(features[0], training=True)
                loss_sup = self.loss_sup(logits, labeled["label"])
                with tape.stop_recording():
                    main = cross_consistency.predict(
                        network.decoder, features[1]
                    )
                # unsup_weight * L_u
                loss_auxiliary, terms = self.auxiliary_losses(
                    self.auxiliary[domain],
                    features[1],
                    main,
                    unlabeled["valid"],
                    source=_Turn(self, place),
                )
                loss = loss_sup + self.ramp * loss_auxiliary
                if self.adversarial_weight:
                    terms["loss_adversarial"] = self.loss_adversarial(
                        features, [labeled["valid"], unlabeled["valid"]], place
                    )
                    loss += self.adversarial_weight * terms["loss_adversarial"]
            self.minimize(loss, tape, self.trained_by(domain))
            reports[domain] = {"loss": loss, "loss_sup": loss_sup, **terms}
        return self.report(**_means(reports))

    def loss_adversarial(self, features, valid, place):
        """float32 scalar, L_adv of a domain.

        Args:
          features: list of features of the encoder.
          valid: for each of them bool [B, H, W], False on padding.
          place: index of the domain.
        """
        z = tf.concat([each[self.encoder.top] for each in features], 0)
        valid = tf.concat(valid, 0)
        logits = self.discriminator(gradient_reversal.reverse(z))
        label = tf.where(cross_consistency.nearest(valid, logits), place, 255)
        num_valid = self.mean_over_replicas(losses.num_valid(label))
        return losses.cross_entropy(logits, label, normalizer=num_valid)

    def passes(self, labeled, unlabeled):
        one = [
            ("train", labeled),
            ("train", unlabeled),
            *self.draw.passes(self.kinds, unlabeled),
        ]
        return one * self.updates_per_step


class _Turn:
    """A method as the source of the draws of one of its updates in a step.

    Args:
      method: CCTDomains.
      place: index of the domain.
    """

    def __init__(self, method, place):
        self.place, self.method = place, method
        self.my_part, self.global_rows = method.my_part, method.global_rows

    def step_seed(self):
        """int32 [2], another one every update."""
        step, seed = tf.unstack(self.method.step_seed())
        return tf.stack(
            [step * self.method.updates_per_step + self.place, seed]
        )


def _sharing(build_networks):
    """{domain: network}, all on the encoder of the first."""
    networks = {}
    for domain, build in build_networks.items():
        network = build()
        if networks:
            network = network.on(next(iter(networks.values())).encoder)
        networks[domain] = network
    return networks


def _discriminator(encoder, num_domains):
    """The top feature -> float32 logits [B, h, w, num_domains]."""
    layers = []
    for filters in _FILTERS:
        layers += [
            keras.layers.Conv2D(filters, 3, padding="same"),
            keras.layers.LeakyReLU(_SLOPE),
        ]
    layers.append(keras.layers.Conv2D(num_domains, 1, dtype="float32"))
    discriminator = keras.Sequential(layers, name="discriminator")
    channels = encoder.feature_channels[encoder.top]
    discriminator.build([None, None, None, channels])
    return discriminator


def _means(reports):
    """All values by their names, after the means over the domains."""
    domains = list(reports.values())
    means = {
        name: tf.add_n([values[name] for values in domains]) / len(domains)
        for name in domains[0]
    }
    each = {
        f"{name}/{domain}": value
        for domain, values in reports.items()
        for name, value in values.items()
    }
    return means | each


build = CCTDomains
