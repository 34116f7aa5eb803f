//! A Kubernetes Event (`events.k8s.io`): what a controller reports about an object.

use serde::{Deserialize, Serialize};

use crate::trace::model::{
    object::{GroupKind, Uid},
    time::Timestamp,
};

/// One Kubernetes Event, in its latest count.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct KubernetesEvent {
    /// When it was received.
    pub at: Timestamp,
    /// UID of the Event itself; it stays the same while its count grows.
    pub uid: Uid,
    pub resource_version: u64,
    /// Kind of the object the Event is about.
    pub kind: GroupKind,
    /// UID of the object the Event is about.
    pub about: Uid,
    /// The container of a Pod that the Event is about; empty for the Pod as a whole.
    pub container: Box<str>,
    /// `Normal` or `Warning`.
    pub severity: Box<str>,
    pub reason: Box<str>,
    /// At most 256 characters.
    pub message: Box<str>,
    /// The reporting controller.
    pub component: Box<str>,
    /// How often it occurred; at least 1.
    pub count: i64,
    /// First and last occurrence, mostly in whole seconds.
    pub first: Timestamp,
    pub last: Timestamp,
}
