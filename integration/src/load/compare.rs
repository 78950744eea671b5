//! Two endpoints in interleaved rounds: the machine drifts, so only figures of the same minute compare.

use serde::Serialize;

use crate::load::run::Prepared;
use crate::load::stats::{Summary, median};
use crate::load::target::Target;
use crate::load::workload::{Spec, Workload};

/// The rounds of one workload.
#[derive(Clone, Debug, Serialize)]
pub struct Comparison {
    /// The row's name.
    pub name: String,
    /// The run.
    pub spec: Spec,
    /// The goal in words, where the row has one.
    pub goal: Option<String>,
    /// Rounds of the first endpoint.
    pub a: Vec<Summary>,
    /// Rounds of the second, if there is one.
    pub b: Vec<Summary>,
    /// Rate of the first by that of the second, round by round.
    pub ratios: Vec<f64>,
}

impl Comparison {
    /// Measures both endpoints in turn; who begins alternates. Objects are removed at the end unless
    /// `keep` is set.
    ///
    /// # Errors
    /// If a run cannot be made.
    pub fn measure(
        name: &str,
        a: &Target,
        b: Option<&Target>,
        spec: &Spec,
        rounds: u32,
        keep: bool,
    ) -> anyhow::Result<Self> {
        let mut first = Prepared::new(a, spec, name)?;
        let mut second = b.map(|target| Prepared::new(target, spec, name)).transpose()?;
        let mut result = Self {
            name: name.to_owned(),
            spec: spec.clone(),
            goal: None,
            a: Vec::new(),
            b: Vec::new(),
            ratios: Vec::new(),
        };
        for round in 0..rounds {
            let (mine, theirs) = match &mut second {
                None => (first.run()?, None),
                Some(second) if round % 2 == 0 => {
                    let mine = first.run()?;
                    (mine, Some(second.run()?))
                }
                Some(second) => {
                    let theirs = second.run()?;
                    (first.run()?, Some(theirs))
                }
            };
            if let Some(theirs) = theirs {
                if theirs.operations_per_second > 0.0 {
                    result
                        .ratios
                        .push(mine.operations_per_second / theirs.operations_per_second);
                }
                result.b.push(theirs);
            }
            result.a.push(mine);
        }
        if !keep {
            first.clean_up()?;
            if let Some(mut second) = second {
                second.clean_up()?;
            }
        }
        Ok(result)
    }

    /// The median ratio, if two endpoints were compared.
    #[must_use]
    pub fn ratio(&self) -> Option<f64> {
        (!self.ratios.is_empty()).then(|| median(&self.ratios))
    }

    /// Whether the rate is told in bytes: for large bodies.
    #[must_use]
    pub fn in_bytes(&self) -> bool {
        let moves_bodies = matches!(
            self.spec.workload,
            Workload::Put | Workload::Get | Workload::Multipart
        );
        moves_bodies && self.spec.size >= 1 << 20
    }
}
