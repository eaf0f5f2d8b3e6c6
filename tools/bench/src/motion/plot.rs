//! A chart for each network: the error of a walker over some seconds, and the error of each system against
//! its delay.

use std::fmt::Write;

use crate::cases::{ALL_MOTIONS, Case, System};
use crate::network::Network;
use crate::play::{FRAME_S, Shown};
use crate::score::distance;
use crate::trace::Trace;
use crate::whole_way::{Behind, Transport};

/// The seconds of a run that are drawn, in which the network with outages has one.
const FROM_S: f64 = 20.0;
const TO_S: f64 = 28.0;
/// Number of frames of which the worst is drawn.
const FRAMES_PER_POINT: usize = 3;
/// The systems of the charts, with their names, their colours and where the names begin. A system hides
/// those after it.
const PLOTTED: [(System, &str, &str, f64); 6] = [
    (
        System::Ours(Behind::Viewer, Transport::Tcp),
        "ours",
        "#e08020",
        0.0,
    ),
    (
        System::Ours(Behind::Viewer, Transport::Datagrams),
        "ours with UDP",
        "#c0392b",
        54.0,
    ),
    (System::Fixed, "fixed 100 ms", "#3f78b5", 168.0),
    (System::Dynamic, "Mirror-style", "#2e8b57", 278.0),
    (System::Latest, "latest", "#9aa4ae", 380.0),
    (System::DeadReckoning, "dead reckoning", "#a05bb5", 440.0),
];
const TOP: f64 = 64.0;
const HEIGHT: f64 = 250.0;
const LEFT: [f64; 2] = [56.0, 606.0];
const WIDTHS: [f64; 2] = [490.0, 238.0];
/// The range of errors, which are drawn on a logarithmic scale.
const LEAST_M: f64 = 0.001;
const MOST_M: f64 = 10.0;
const MOST_DELAY_MS: f64 = 450.0;

/// Returns the chart of a network: the errors of a walker with each system, and the figures of all motions.
pub(crate) fn svg(network: &Network, seed: u64, trace: &Trace, cases: &[Case]) -> String {
    let mut svg = String::from(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 860 350\" \
         font-family=\"system-ui, sans-serif\" font-size=\"12\" fill=\"#1f2328\">\n\
         <rect width=\"860\" height=\"350\" rx=\"8\" fill=\"#f6f8fa\"/>\n",
    );
    let mut add = |element: String| {
        writeln!(svg, "{element}").expect("a string takes everything");
    };
    let title = format!("{}: how far from the truth a walker is shown", network.name);
    add(text(LEFT[0], 22.0, "start", &title));
    add(text(
        LEFT[1],
        22.0,
        "start",
        "delay and error (rms), all motions",
    ));
    for (label, error_m) in [
        ("1 mm", 0.001),
        ("1 cm", 0.01),
        ("10 cm", 0.1),
        ("1 m", 1.0),
        ("10 m", 10.0),
    ] {
        let y = height(error_m);
        add(text(LEFT[0] - 8.0, y + 4.0, "end", label));
        for (left, width) in LEFT.into_iter().zip(WIDTHS) {
            add(line([left, y], [left + width, y]));
        }
    }
    for second in FROM_S as u32..=TO_S as u32 {
        let x = across(0, (f64::from(second) - FROM_S) / (TO_S - FROM_S));
        add(text(
            x,
            TOP + HEIGHT + 18.0,
            "middle",
            &format!("{second} s"),
        ));
    }
    for delay_ms in [0, 100, 200, 300, 400] {
        let x = across(1, f64::from(delay_ms) / MOST_DELAY_MS);
        add(line([x, TOP], [x, TOP + HEIGHT]));
        let label = match delay_ms {
            400 => "400 ms".to_owned(),
            _ => delay_ms.to_string(),
        };
        add(text(x, TOP + HEIGHT + 18.0, "middle", &label));
    }
    for (system, name, colour, begins) in PLOTTED.into_iter().rev() {
        let x = LEFT[0] + begins;
        add(format!(
            "<rect x=\"{x:.0}\" y=\"34\" width=\"12\" height=\"12\" rx=\"2\" fill=\"{colour}\"/>"
        ));
        add(text(x + 17.0, 44.0, "start", name));
        // The saw of the latest position would hide everything else.
        if system != System::Latest {
            let shown = system.play(trace, network, seed, TO_S + 1.0);
            let width = if system.is_ours() { 2.2 } else { 1.2 };
            add(format!(
                "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{width}\"/>",
                points(&shown, trace)
            ));
        }
        let case = cases.iter().find(|case| {
            case.network == network.name && case.motion == ALL_MOTIONS && case.system == system
        });
        if let Some(score) = case.map(|case| case.score) {
            let x = across(1, (score.delay_ms / MOST_DELAY_MS).clamp(0.0, 1.0));
            let y = height(score.rms_cm / 100.0);
            add(format!(
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"6\" fill=\"{colour}\"/>"
            ));
        }
    }
    svg.push_str("</svg>\n");
    svg
}

/// Returns the errors over time, the worst of some frames each.
fn points(shown: &[Shown], trace: &Trace) -> String {
    let from = shown.partition_point(|shown| shown.time_s < FROM_S);
    let to = shown.partition_point(|shown| shown.time_s <= TO_S - FRAME_S);
    let error_m = |shown: &Shown| distance(shown.placed.position, trace.at(shown.truth_s).position);
    let mut points = String::new();
    for frames in shown[from..to].chunks(FRAMES_PER_POINT) {
        let x = across(0, (frames[0].time_s - FROM_S) / (TO_S - FROM_S));
        let y = height(frames.iter().map(error_m).fold(0.0, f64::max));
        write!(points, "{x:.0},{y:.0} ").expect("a string takes everything");
    }
    points
}

fn across(panel: usize, share: f64) -> f64 {
    LEFT[panel] + WIDTHS[panel] * share
}

fn height(error_m: f64) -> f64 {
    let share = (error_m / LEAST_M).ln() / (MOST_M / LEAST_M).ln();
    TOP + HEIGHT * (1.0 - share.clamp(0.0, 1.0))
}

fn line(from: [f64; 2], to: [f64; 2]) -> String {
    let [x, y] = from;
    format!(
        "<path d=\"M{x:.1} {y:.1}L{:.1} {:.1}\" stroke=\"#d0d7de\"/>",
        to[0], to[1]
    )
}

fn text(x: f64, y: f64, anchor: &str, text: &str) -> String {
    format!("<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>")
}
