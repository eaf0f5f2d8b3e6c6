//! Metrics by name, in Prometheus' text form.

use std::fmt::{self, Debug, Formatter};
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{
    DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, EncodeMetric,
};
use prometheus_client::metrics::counter::{ConstCounter, Counter};
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::registry::{Metric, Registry, Unit};

use crate::label::Label;

/// Every metric of a server. A metric is registered where it is made; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct MetricSet(Arc<Mutex<Registry>>);

impl MetricSet {
    /// Makes a counter; its name gets the ending `_total`.
    pub fn counter(&self, name: &str, help: &str) -> Counter {
        let counter = Counter::default();
        self.lock().register(name, help, counter.clone());
        counter
    }

    /// Makes a gauge.
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        let gauge = Gauge::default();
        self.lock().register(name, help, gauge.clone());
        gauge
    }

    /// Makes a counter for each value of a label. All begin at 0, so that an alert which compares with an
    /// earlier value also notices the first event.
    pub fn counters_by<Of: Label>(&self, name: &str, help: &str) -> CountersBy<Of> {
        let counters = CountersBy {
            family: Family::default(),
            label: PhantomData,
        };
        for &value in Of::ALL {
            counters.add(value, 0);
        }
        self.lock().register(name, help, counters.family.clone());
        counters
    }

    /// Registers any other metric; `unit` becomes a part of its name.
    pub fn register(&self, name: &str, help: &str, unit: Option<Unit>, metric: impl Metric) {
        let mut registry = self.lock();
        match unit {
            Some(unit) => registry.register_with_unit(name, help, unit, metric),
            None => registry.register(name, help, metric),
        }
    }

    /// Registers a counter that is read whenever somebody asks for the metrics.
    pub fn read_counter<Number>(
        &self,
        name: &'static str,
        help: &str,
        read: impl Fn() -> Number + Send + Sync + 'static,
    ) where
        Number: EncodeCounterValue + 'static,
    {
        self.read(name, help, None, move || Some(ConstCounter::new(read())));
    }

    /// Registers a gauge that is read whenever somebody asks for the metrics, and is missing where
    /// there is nothing to read.
    pub fn read_gauge<Number>(
        &self,
        name: &'static str,
        help: &str,
        unit: Option<Unit>,
        read: impl Fn() -> Option<Number> + Send + Sync + 'static,
    ) where
        Number: EncodeGaugeValue + 'static,
    {
        self.read(name, help, unit, move || read().map(ConstGauge::new));
    }

    /// Registers a metric that is made whenever somebody asks for the metrics; `None` leaves it out.
    pub fn read<Value: EncodeMetric + 'static>(
        &self,
        name: &'static str,
        help: &str,
        unit: Option<Unit>,
        read: impl Fn() -> Option<Value> + Send + Sync + 'static,
    ) {
        let reading = Reading {
            name,
            help: format!("{help}."),
            unit,
            read,
        };
        self.lock().register_collector(Box::new(reading));
    }

    /// Returns everything in Prometheus' text form.
    pub fn render(&self) -> String {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.lock())
            .expect("writing to a string cannot fail");
        text
    }

    fn lock(&self) -> MutexGuard<'_, Registry> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Counters of one metric, one for each value of its label. Clones count together.
#[derive(Debug, Clone)]
pub struct CountersBy<Of> {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    label: PhantomData<fn(Of)>,
}

impl<Of: Label> CountersBy<Of> {
    /// Counts one.
    pub fn count(&self, value: Of) {
        self.add(value, 1);
    }

    /// Counts several.
    pub fn add(&self, value: Of, count: u64) {
        self.family.get_or_create(&labels(value)).inc_by(count);
    }

    /// Returns the counts that are not 0, in the order of the values.
    pub fn counts(&self) -> impl Iterator<Item = (Of, u64)> {
        let count = |&value: &Of| {
            let counter = self.family.get(&labels(value));
            (value, counter.map_or(0, |counter| counter.get()))
        };
        Of::ALL.iter().map(count).filter(|(_, count)| *count > 0)
    }
}

fn labels<Of: Label>(value: Of) -> [(&'static str, &'static str); 1] {
    [(Of::NAME, value.as_str())]
}

/// A metric whose value is known elsewhere.
struct Reading<Read> {
    name: &'static str,
    help: String,
    unit: Option<Unit>,
    read: Read,
}

impl<Value, Read> Collector for Reading<Read>
where
    Value: EncodeMetric,
    Read: Fn() -> Option<Value> + Send + Sync + 'static,
{
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let Some(value) = (self.read)() else {
            return Ok(());
        };
        let kind = value.metric_type();
        let unit = self.unit.as_ref();
        value.encode(encoder.encode_descriptor(self.name, &self.help, unit, kind)?)
    }
}

impl<Read> Debug for Reading<Read> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Reading").field(&self.name).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ending::Ending;

    #[test]
    fn every_value_of_a_label_is_there_from_the_start_and_counted_by_itself() {
        let set = MetricSet::default();
        let counters = set.counters_by::<Ending>("endings", "Endings by reason");
        let text = set.render();
        for &ending in Ending::ALL {
            let line = format!("endings_total{{reason=\"{}\"}} 0", ending.as_str());
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
        assert_eq!(counters.counts().count(), 0);
        for (number, &ending) in (1..).zip(Ending::ALL) {
            counters.add(ending, number);
        }
        let counts = counters.counts().map(|(_, count)| count);
        assert!(counts.eq(1..=Ending::ALL.len() as u64));
    }

    #[test]
    fn what_is_known_elsewhere_is_read_when_it_is_asked_for() {
        let set = MetricSet::default();
        let value = Arc::new(Mutex::new(None));
        let read = Arc::clone(&value);
        let unit = Some(Unit::Seconds);
        set.read_gauge("offset", "How far away", unit, move || {
            *read.lock().unwrap()
        });
        set.read_counter("lines", "How many", || 7_u64);
        assert!(!set.render().contains("offset"));
        *value.lock().unwrap() = Some(1.5);
        let text = set.render();
        for line in [
            "# HELP offset_seconds How far away.",
            "# TYPE offset_seconds gauge",
            "offset_seconds 1.5",
            "lines_total 7",
        ] {
            assert!(text.lines().any(|other| other == line), "{line}: {text}");
        }
    }
}
