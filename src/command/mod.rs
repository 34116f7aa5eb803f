//! Commands of people and pipelines, whose work becomes the beginning of a trace.
//!
//! | file | is |
//! | --- | --- |
//! | `stamp` | `spanlink stamp`: manifests from standard input to standard output |
//! | `exec` | `spanlink exec`: a command within a span |
//! | `caller` | the trace context of the environment |
//! | `live` | which objects an apply would change, by the API server's answer |
//! | `own_span` | the span of a command, and its export |
//! | `warning` | messages that do not fail a command |

mod caller;
mod exec;
mod live;
mod own_span;
mod stamp;
mod warning;

pub use self::{
    exec::{ExecArguments, exec},
    stamp::{StampArguments, stamp},
};
