//! The comparison as a chart: bars of CPU and of bytes per delivery.

use std::fmt::Write;

use crate::row::Row;

const WIDTH: f64 = 860.0;
const BAR: f64 = 15.0;
const NAME_WIDTH: f64 = 210.0;
const PANEL_WIDTH: f64 = 300.0;
const TOP: f64 = 78.0;
/// The length of the longest bar; the rest of the panel is for its number.
const BAR_SPACE: f64 = 190.0;
/// The colours from few clients to many. The chart has a light background of its own.
const COLOURS: [&str; 4] = ["#8fb8de", "#3f78b5", "#1d4573", "#0b2340"];
const OURS: [&str; 4] = ["#f2b134", "#e08020", "#b55a10", "#7a3a08"];

/// One panel of the chart.
struct Panel {
    title: &'static str,
    value: fn(&Row) -> Option<f64>,
    is_logarithmic: bool,
}

const PANELS: [Panel; 2] = [
    Panel {
        title: "server CPU seconds per million deliveries (log)",
        value: |row| row.cpu_s_per_million,
        is_logarithmic: true,
    },
    Panel {
        title: "bytes received per delivery",
        value: |row| row.bytes_per_delivery,
        is_logarithmic: false,
    },
];

/// Returns the rows with the first row's motion as an SVG document.
pub(crate) fn svg(rows: &[Row]) -> String {
    let motion = rows.first().map_or("", |row| row.motion);
    let rows: Vec<&Row> = rows.iter().filter(|row| row.motion == motion).collect();
    let systems = distinct(rows.iter().map(|row| row.system));
    let counts = distinct(rows.iter().map(|row| row.n));
    let group = BAR * counts.len() as f64 + 9.0;
    let height = TOP + group * systems.len() as f64 + 12.0;

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n\
         <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"8\" fill=\"#f6f8fa\"/>\n"
    );
    let mut add = |element: String| {
        writeln!(svg, "{element}").expect("writing to a string cannot fail");
    };
    let hz = rows.first().map_or(0, |row| row.hz);
    let title = format!("Everybody sees everybody, {hz} Hz, motion: {motion}. Shorter is better.");
    add(text(16.0, 24.0, "start", &format!("{title} Clients:")));
    for (index, count) in counts.iter().enumerate() {
        let x = 500.0 + 70.0 * index as f64;
        add(rect(x, 14.0, BAR, colour(false, index)));
        add(text(x + 20.0, 24.0, "start", &count.to_string()));
    }
    for (row, system) in systems.iter().enumerate() {
        let y = TOP + group * row as f64 + (group - 9.0) / 2.0 + 4.0;
        add(text(NAME_WIDTH - 10.0, y, "end", system));
    }
    for (index, panel) in PANELS.iter().enumerate() {
        let left = NAME_WIDTH + (PANEL_WIDTH + 20.0) * index as f64;
        add(text(left, TOP - 20.0, "start", panel.title));
        let values = rows
            .iter()
            .filter_map(|row| (panel.value)(row))
            .filter(|&value| value > 0.0);
        let (least, most) = values.fold((f64::INFINITY, 0.0_f64), |(least, most), value| {
            (least.min(value), most.max(value))
        });
        for row in &rows {
            let Some(value) = (panel.value)(row).filter(|&value| value > 0.0) else {
                continue;
            };
            let part = match panel.is_logarithmic {
                // The smallest bar is visible as well.
                true => (value / least * 2.0).ln() / (most / least * 2.0).ln(),
                false => value / most,
            };
            let system = systems.iter().position(|&system| system == row.system);
            let count = counts.iter().position(|&count| count == row.n);
            let (system, count) = (system.unwrap_or(0), count.unwrap_or(0));
            let y = TOP + group * system as f64 + BAR * count as f64;
            add(rect(left, y, part * BAR_SPACE, colour(system == 0, count)));
            let mut label = format!("{value:.*}", if value < 10.0 { 3 } else { 1 });
            if row.fraction < 0.95 {
                label += &format!(" ({:.0} % arrived)", 100.0 * row.fraction);
            }
            add(text(
                left + part * BAR_SPACE + 5.0,
                y + 11.0,
                "start",
                &label,
            ));
        }
    }
    svg + "</svg>\n"
}

fn distinct<T: PartialEq>(values: impl Iterator<Item = T>) -> Vec<T> {
    let mut distinct = Vec::new();
    for value in values {
        if !distinct.contains(&value) {
            distinct.push(value);
        }
    }
    distinct
}

fn colour(is_first: bool, index: usize) -> &'static str {
    let colours = if is_first { OURS } else { COLOURS };
    colours[index % colours.len()]
}

fn rect(x: f64, y: f64, width: f64, colour: &str) -> String {
    let height = BAR - 2.0;
    format!(
        "<rect x=\"{x:.1}\" y=\"{y:.1}\" width=\"{width:.1}\" height=\"{height}\" rx=\"2\" \
         fill=\"{colour}\"/>"
    )
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}
