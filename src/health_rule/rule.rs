//! A rule for one kind: several expressions, evaluated in a fixed order.

use kube_cel::cel::Value;
use serde_json::{Map, Value as Json};

use super::{
    check::Fields,
    expression::{Expression, Failure, Scope},
    verdict::{State, Verdict},
};

/// Longer messages are truncated to this many characters.
const MAX_MESSAGE: usize = 256;

/// Which expression is evaluated first. The first one that is true decides.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Order {
    /// failed, paused, in progress, current.
    #[default]
    FailedFirst,
    /// in progress, failed, current: the order of Flux.
    InProgressFirst,
}

/// The expressions for one kind. An object for which none is true is in progress.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct HealthRule {
    pub order: Order,
    pub current: Option<Expression>,
    pub failed: Option<Expression>,
    pub in_progress: Option<Expression>,
    pub paused: Option<Expression>,
    /// Text: why it is not Current.
    pub reason: Option<Expression>,
    pub message: Option<Expression>,
    /// The controller does not maintain `status.observedGeneration`.
    pub ignores_observed_generation: bool,
}

impl HealthRule {
    fn decisions(&self) -> [(State, Option<&Expression>); 4] {
        let failed = (State::Failed, self.failed.as_ref());
        let paused = (State::Paused, self.paused.as_ref());
        let in_progress = (State::InProgress, self.in_progress.as_ref());
        let current = (State::Current, self.current.as_ref());
        match self.order {
            Order::FailedFirst => [failed, paused, in_progress, current],
            Order::InProgressFirst => [in_progress, failed, paused, current],
        }
    }

    fn expressions(&self) -> impl Iterator<Item = &Expression> {
        let texts = self.reason.iter().chain(&self.message);
        self.decisions().into_iter().filter_map(|(_, expression)| expression).chain(texts)
    }

    fn reads_status(&self) -> bool {
        let mut fields = self.expressions().flat_map(Expression::fields);
        fields.any(|(name, _)| &**name == "status")
    }

    /// The fields of an object that its expressions read.
    pub fn fields(&self) -> Fields {
        let mut fields = Fields::new();
        for (name, parts) in self.expressions().flat_map(Expression::fields) {
            match (fields.iter_mut().find(|(known, _)| known == name), parts) {
                (None, _) => fields.push((name.clone(), parts.clone())),
                (Some((_, known)), None) => *known = None,
                (Some((_, None)), Some(_)) => {}
                (Some((_, Some(known))), Some(parts)) => {
                    for part in parts {
                        if !known.contains(part) {
                            known.push(part.clone());
                        }
                    }
                }
            }
        }
        fields
    }

    /// Decides about an object, of which `object` has the [`Self::fields`].
    ///
    /// A field that does not exist means "not yet", as in Flux: the expression counts as false.
    ///
    /// # Errors
    /// With any other error of an expression. The object is then in state [`State::Unknown`].
    pub fn evaluate(&self, object: &Map<String, Json>) -> Result<Verdict, String> {
        let scope = Scope::new(object).ok_or("the object has too many fields")?;
        let mut state = State::InProgress;
        for (decision, expression) in self.decisions() {
            let Some(expression) = expression else { continue };
            match expression.evaluate(&scope) {
                Ok(Value::Bool(true)) => {
                    state = decision;
                    break;
                }
                Ok(Value::Bool(false)) | Err(Failure::Missing) => {}
                Ok(_) => return Err(format!("{} is not true or false", expression.text())),
                Err(Failure::Error(error)) => return Err(error),
            }
        }
        let text = |expression: &Option<Expression>| {
            let value = expression.as_ref().filter(|_| state != State::Current)?;
            match value.evaluate(&scope) {
                Ok(Value::String(text)) => Some(text.chars().take(MAX_MESSAGE).collect()),
                // A verdict without its reason is better than none.
                Ok(_) | Err(_) => None,
            }
        };
        Ok(Verdict {
            state,
            reason: text(&self.reason).unwrap_or_default(),
            message: text(&self.message).unwrap_or_default(),
            reads_status: self.reads_status(),
        })
    }
}
