//! Labels of metrics: closed sets of values, so that the number of time series is bounded.

/// A set of values that one label of a metric can have.
pub trait Label: Copy + Eq + 'static {
    /// The label's name.
    const NAME: &'static str;
    /// Every value.
    const ALL: &'static [Self];

    /// The value as it stands in metrics and in the log.
    fn as_str(self) -> &'static str;
}

/// Declares an enumeration whose variants are the values of a label.
#[doc(hidden)]
#[macro_export]
macro_rules! __label {
    ($(#[$about:meta])* $vis:vis enum $name:ident($label:literal) {
        $($(#[$doc:meta])* $variant:ident => $text:literal,)*
    }) => {
        $(#[$about])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        $vis enum $name { $($(#[$doc])* $variant,)* }

        impl $crate::label::Label for $name {
            const NAME: &'static str = $label;
            const ALL: &'static [Self] = &[$(Self::$variant),*];

            fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }
        }
    };
}

pub use __label as label;
