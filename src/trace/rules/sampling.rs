//! Decides which chains are exported: once, at the head (`docs/causes.md`, Sampling).

use crate::trace::model::{context::TraceContext, span::TraceId};

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sampling {
    /// A head's own fresh context decides by its `sampled` flag.
    pub by_context: bool,
    /// The share of all other chains that is exported: 0 to 1.
    pub ratio: f64,
}

impl Default for Sampling {
    fn default() -> Self {
        Self { by_context: true, ratio: 1.0 }
    }
}

/// Bits of a trace id that are random by W3C Trace Context, level 2.
const RANDOM_BITS: u32 = 56;

impl Sampling {
    /// Whether the chain that begins with this trace is exported. `fresh`: the head's own context.
    pub fn samples(&self, fresh: Option<&TraceContext>, trace_id: TraceId) -> bool {
        match fresh {
            Some(context) if self.by_context => context.is_sampled(),
            _ => self.samples_id(trace_id),
        }
    }

    /// As OpenTelemetry's samplers do, so that all of one ratio agree about a trace
    /// ([consistent probability sampling](https://opentelemetry.io/docs/specs/otel/trace/tracestate-probability-sampling/)).
    fn samples_id(&self, trace_id: TraceId) -> bool {
        // The highest 32 of those 56 bits are precise enough.
        let random = u32::try_from(trace_id.0 >> (RANDOM_BITS - 32) & u128::from(u32::MAX));
        let share = random.map_or(0.0, |random| f64::from(random) / f64::from(u32::MAX));
        self.ratio > 0.0 && share >= 1.0 - self.ratio
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::trace::model::observation::Carrier;

    fn context(flags: &str) -> TraceContext {
        let traceparent = format!("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-{flags}");
        TraceContext::parse(&Carrier { traceparent: traceparent.into(), ..Carrier::default() })
            .unwrap()
    }

    #[test]
    fn a_fresh_context_decides_by_its_flag_unless_it_is_not_to() {
        let follow = Sampling { by_context: true, ratio: 0.0 };
        assert!(follow.samples(Some(&context("01")), TraceId(1)));
        assert!(!follow.samples(Some(&context("00")), TraceId(1)));
        assert!(!follow.samples(None, TraceId(1)));
        let ratio = Sampling { by_context: false, ratio: 1.0 };
        assert!(ratio.samples(Some(&context("00")), TraceId(1)));
    }

    #[test]
    fn a_ratio_keeps_its_share_and_a_larger_one_keeps_the_same_and_more() {
        let ids =
            (0..10_000_u128).map(|n| TraceId(n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_0c5d)));
        let kept = |ratio| {
            let sampling = Sampling { by_context: true, ratio };
            ids.clone().filter(|id| sampling.samples(None, *id)).collect::<Vec<_>>()
        };
        let (few, many) = (kept(0.1), kept(0.5));
        assert!((900..1_100).contains(&few.len()), "{}", few.len());
        assert!((4_800..5_200).contains(&many.len()), "{}", many.len());
        assert!(few.iter().all(|id| many.contains(id)));
        assert!(kept(0.0).is_empty());
        assert_eq!(kept(1.0).len(), 10_000);
    }
}
