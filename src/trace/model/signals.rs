//! What the general rule of readiness reads of a custom resource's status, besides its conditions.

/// The fields of a status that commonly say how an object is doing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StatusSignals {
    /// At most 16.
    pub words: Vec<StatusWord>,
    /// Booleans such as `status.ready`; at most 8.
    pub flags: Vec<(Box<str>, bool)>,
    /// Counters such as `status.upToDateReplicas`; at most 16.
    pub counters: Vec<(Box<str>, i64)>,
    /// `status.replicas`.
    pub replicas: Option<i64>,
    /// `status.reason`, or a field of a similar name.
    pub reason: Option<Box<str>>,
    /// `status.message`, or a field of a similar name; at most 256 characters.
    pub message: Option<Box<str>>,
    /// There is a `startTime` or a `completionTime`: the object stands for a run that is to finish.
    pub is_run: bool,
    /// There is a `completionTime`.
    pub has_finished: bool,
    /// Fingerprint of the words, numbers and booleans of the whole status, without times and long
    /// texts: it changes when the controller has progressed.
    pub progress: u32,
}

impl StatusSignals {
    /// Those of an object without a status.
    pub const NONE: Self = Self {
        words: Vec::new(),
        flags: Vec::new(),
        counters: Vec::new(),
        replicas: None,
        reason: None,
        message: None,
        is_run: false,
        has_finished: false,
        progress: 0,
    };
}

/// A word in a status, such as `status.phase: Running`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusWord {
    /// Its path below `status`: `phase`, `health.status`.
    pub path: Box<str>,
    /// At most 256 characters.
    pub text: Box<str>,
    /// It is of an item of a list: only what is bad about a part is about the object.
    pub is_part: bool,
}
