//! The labels of the counters: every value a label can have, so that their number is bounded.

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::ending::{Ending, HttpEnding};
use crate::label::{Label, label};

label! {
    /// What panicked: the label of `cubesync_panics_total`.
    pub(crate) enum Task("task") {
        /// One connection.
        Connection => "connection",
        /// One room.
        Room => "room",
        /// Anything else.
        Other => "other",
    }
}

label! {
    /// What was listened to: the label of `cubesync_accept_errors_total`.
    pub(crate) enum Door("listener") {
        /// Players' connections.
        Tcp => "tcp",
        /// Pages.
        Http => "http",
        /// The line protocol.
        Text => "text",
    }
}

macro_rules! encode {
    ($($name:ident)*) => {$(
        impl EncodeLabelValue for $name {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> Result<(), std::fmt::Error> {
                EncodeLabelValue::encode(&self.as_str(), encoder)
            }
        }
    )*};
}

encode! { Ending HttpEnding Task Door }

/// A counter for each value of one label.
macro_rules! label_sets {
    ($($name:ident { $label:ident: $value:ty })*) => {$(
        #[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
        pub(super) struct $name {
            pub(super) $label: $value,
        }
    )*};
}

label_sets! {
    SampleLabels { timing: &'static str }
    CorrectionLabels { reason: &'static str }
    ResumeLabels { outcome: &'static str }
    ReloadLabels { outcome: &'static str }
    LostLabels { direction: &'static str }
    DisconnectLabels { reason: Ending }
    HttpCutLabels { reason: HttpEnding }
    ResponseLabels { status: u16 }
    PanicLabels { task: Task }
    DoorLabels { listener: Door }
}
