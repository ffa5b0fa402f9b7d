//! `bench prove --html`: one page with the figures as plots, which needs no other file and no script.
//!
//! rows → time by size, split, ratio to peers as inline SVG → HTML

use millrace_prover::bench::{ProveRow, Report};
use std::collections::BTreeMap;
use std::fmt::Write;

const COLOURS: [&str; 8] = [
    "#1b6ca8", "#d1495b", "#edae49", "#00798c", "#6a4c93", "#5f7470", "#8d6a9f", "#333333",
];
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 70.0;
const BOTTOM: f64 = 40.0;
const BAR: f64 = 22.0;

/// The page of a report.
pub fn page(report: &Report<ProveRow>) -> String {
    let machine = &report.environment;
    let facts = format!(
        "{}, {} cores, {} GiB; {}; {} build; version {}, commit {}; {}",
        machine.cpu,
        machine.cores,
        machine.memory_bytes >> 30,
        machine.rustc,
        machine.profile,
        machine.version,
        machine.commit,
        machine.flags.join(" "),
    );
    let rows = &report.rows;
    [
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>Proving times</title>",
        "<style>body{font:15px sans-serif;max-width:60em;margin:2em auto;padding:0 1em}",
        "table{border-collapse:collapse}td,th{padding:.2em .7em;text-align:right;border-bottom:1px solid #ddd}",
        "td:first-child,td:nth-child(2),th{text-align:left}svg{max-width:100%}text{font:12px sans-serif}</style>",
        "<h1>Proving times</h1><p>",
        &escaped(&facts),
        "</p><h2>Time by size</h2>",
        &by_size(rows),
        "<h2>Where the time goes</h2><p>Seconds; a backend that does not tell has one bar.</p>",
        &split(rows),
        "<h2>Ratio to peers</h2><p>How many times as long the others took for the same proofs, in one alternating run.</p>",
        &ratios(rows),
        "<h2>Threads</h2><p>How many times as fast as with the fewest threads of the run.</p>",
        &speed_ups(rows),
        "<h2>Figures</h2>",
        &figures(rows),
        "</html>\n",
    ]
    .concat()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

/// Adds to a text; texts take whatever is written.
macro_rules! put {
    ($text:expr, $($what:tt)*) => { write!($text, $($what)*).expect("a text takes everything") };
}

fn opened(height: f64) -> String {
    format!("<svg viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" role=\"img\">")
}

/// Median seconds over constraints, both logarithmic, a line for each backend and number of threads.
fn by_size(rows: &[ProveRow]) -> String {
    let mut lines: BTreeMap<(String, usize), Vec<(f64, f64)>> = BTreeMap::new();
    for row in rows {
        let point = (
            (row.constraints.max(1) as f64).log2(),
            row.prove_s.median.max(1e-6).log10(),
        );
        lines
            .entry((row.backend.clone(), row.threads))
            .or_default()
            .push(point);
    }
    let points = || lines.values().flatten();
    let (x_low, x_high) = bounds(points().map(|point| point.0));
    let (y_low, y_high) = bounds(points().map(|point| point.1));
    let x = |value: f64| LEFT + (value - x_low) / (x_high - x_low) * (WIDTH - LEFT - 180.0);
    let y = |value: f64| 10.0 + (y_high - value) / (y_high - y_low) * (HEIGHT - BOTTOM - 10.0);
    let mut svg = opened(HEIGHT);
    for tick in x_low as i32..=x_high as i32 {
        let at = x(f64::from(tick));
        put!(
            svg,
            "<line x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"10\" y2=\"{:.1}\" stroke=\"#eee\"/>",
            HEIGHT - BOTTOM
        );
        put!(
            svg,
            "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">2^{tick}</text>",
            HEIGHT - BOTTOM + 18.0
        );
    }
    for tick in y_low as i32..=y_high as i32 {
        let at = y(f64::from(tick));
        put!(
            svg,
            "<line x1=\"{LEFT}\" x2=\"{:.1}\" y1=\"{at:.1}\" y2=\"{at:.1}\" stroke=\"#eee\"/>",
            x(x_high)
        );
        let seconds = 10f64.powi(tick);
        put!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{seconds} s</text>",
            LEFT - 8.0,
            at + 4.0
        );
    }
    for (place, ((backend, threads), points)) in lines.iter().enumerate() {
        let colour = COLOURS[place % COLOURS.len()];
        let mut points = points.clone();
        points.sort_by(|a, b| a.0.total_cmp(&b.0));
        let path: Vec<String> = points
            .iter()
            .map(|p| format!("{:.1},{:.1}", x(p.0), y(p.1)))
            .collect();
        put!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>",
            path.join(" ")
        );
        for point in &points {
            put!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\" fill=\"{colour}\"/>",
                x(point.0),
                y(point.1)
            );
        }
        let name =
            format!("{}, {threads} threads", escaped(backend)).replace(", 1 threads", ", 1 thread");
        put!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{name}</text>",
            WIDTH - 170.0,
            24.0 + 18.0 * place as f64
        );
    }
    svg + "</svg>"
}

/// Whole numbers around the values, at least one apart.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values.fold((f64::MAX, f64::MIN), |(low, high), v| {
        (low.min(v), high.max(v))
    });
    if low > high {
        return (0.0, 1.0);
    }
    (low.floor(), high.ceil().max(low.floor() + 1.0))
}

/// A horizontal bar for each row: parts with colour and length.
fn bars(rows: &[(String, Vec<(usize, f64)>)], unit: &str) -> String {
    let longest = rows
        .iter()
        .map(|(_, parts)| parts.iter().map(|part| part.1).sum::<f64>());
    let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
    let start = 310.0;
    let mut svg = opened(rows.len() as f64 * (BAR + 6.0) + 8.0);
    for (place, (name, parts)) in rows.iter().enumerate() {
        let top = place as f64 * (BAR + 6.0) + 4.0;
        put!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            start - 8.0,
            top + 16.0,
            escaped(name)
        );
        let mut at = start;
        for (colour, value) in parts {
            let length = value / longest * (WIDTH - start - 90.0);
            put!(
                svg,
                "<rect x=\"{at:.1}\" y=\"{top:.1}\" width=\"{length:.1}\" height=\"{BAR}\" fill=\"{}\"/>",
                COLOURS[*colour]
            );
            at += length;
        }
        let total: f64 = parts.iter().map(|part| part.1).sum();
        put!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\">{total:.3}{unit}</text>",
            at + 6.0,
            top + 16.0
        );
    }
    svg + "</svg>"
}

fn title(row: &ProveRow) -> String {
    let threads = if row.threads == 1 {
        "thread"
    } else {
        "threads"
    };
    format!(
        "{}, {}, {} {threads}",
        row.circuit, row.backend, row.threads
    )
}

fn split(rows: &[ProveRow]) -> String {
    let parts = |row: &ProveRow| {
        let split = row.split;
        let told = split.ntt + split.msm_g1 + split.msm_g2;
        let rest = (row.prove_s.median - told).max(0.0);
        vec![
            (4, split.witness),
            (2, split.ntt),
            (0, split.msm_g1),
            (1, split.msm_g2),
            (5, rest),
        ]
    };
    let rows: Vec<_> = rows.iter().map(|row| (title(row), parts(row))).collect();
    let names = [
        (4, "witness"),
        (2, "products and transforms"),
        (0, "sums in G1"),
        (1, "sums in G2"),
        (5, "the rest, or not told"),
    ];
    let legend = names.map(|(colour, name)| {
        format!("<span style=\"color:{}\">■</span> {name} ", COLOURS[colour])
    });
    format!("<p>{}</p>{}", legend.concat(), bars(&rows, " s"))
}

fn ratios(rows: &[ProveRow]) -> String {
    let ours = rows.iter().filter(|row| row.backend.starts_with("fast"));
    let each = ours.flat_map(|row| {
        let others = row.ratio_to.iter();
        others.map(move |(name, ratio)| (format!("{name} to {}", title(row)), vec![(0, *ratio)]))
    });
    bars(&each.collect::<Vec<_>>(), "×")
}

fn speed_ups(rows: &[ProveRow]) -> String {
    let mut fewest: BTreeMap<(&str, &str), &ProveRow> = BTreeMap::new();
    for row in rows {
        let best = fewest.entry((&row.circuit, &row.backend)).or_insert(row);
        if row.threads < best.threads {
            *best = row;
        }
    }
    let more = rows.iter().filter_map(|row| {
        let base = fewest[&(&*row.circuit, &*row.backend)];
        let ratio = base.prove_s.median / row.prove_s.median.max(1e-9);
        (row.threads > base.threads).then(|| {
            (
                format!("{} to {}", title(row), base.threads),
                vec![(2, ratio)],
            )
        })
    });
    let bars_of: Vec<_> = more.collect();
    if bars_of.is_empty() {
        return "<p>All rows are of the same number.</p>".into();
    }
    bars(&bars_of, "×")
}

fn figures(rows: &[ProveRow]) -> String {
    let mut table = String::from(
        "<table><tr><th>circuit<th>backend<th>threads<th>constraints<th>prove s (min–max)<th>µs/constraint<th>open ms<th>peak MiB<th>scratch MiB<th>proof bytes<th>EVM gas, computed",
    );
    for row in rows {
        let prove = row.prove_s;
        put!(
            table,
            "<tr><td>{}<td>{}<td>{}<td>{}<td>{:.3} ({:.3}–{:.3})<td>{:.2}<td>{:.2}<td>{}<td>{}<td>{}<td>{}",
            escaped(&row.circuit),
            escaped(&row.backend),
            row.threads,
            row.constraints,
            prove.median,
            prove.min,
            prove.max,
            row.us_per_constraint,
            (row.open_s + row.prepare_s) * 1e3,
            row.peak_rss_bytes >> 20,
            row.scratch_bytes >> 20,
            row.proof_bytes,
            row.evm_gas,
        );
    }
    table + "</table>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use millrace_prover::bench::{ProveBench, bench_prove};
    use millrace_prover::circuit::Circuit;
    use millrace_prover::fast::Fast;
    use millrace_prover::groth16::{Backend, Reference};

    #[test]
    fn a_page_shows_every_row_and_needs_nothing_else() {
        let mut rows = vec![];
        for links in [20, 50] {
            let bench = ProveBench {
                circuit: Circuit::Chain(links),
                repetitions: 1,
            };
            let backends: [&dyn Backend; 2] = [&Fast::portable(), &Reference];
            rows.extend(bench_prove(&backends, &bench, |_| {}).unwrap());
        }
        // The same again with more threads.
        let mut more = rows[3].clone();
        more.threads += 1;
        rows.push(more);
        rows[0].backend = "<script>".into();
        let page = page(&Report::new(rows));
        assert_eq!(
            page.matches("<svg ").count(),
            page.matches("</svg>").count()
        );
        assert_eq!(page.matches("<svg ").count(), 4);
        assert_eq!(page.matches("<tr>").count(), 1 + 5);
        for text in [
            "chain-20",
            "chain-50",
            "ark-groth16",
            "&lt;script&gt;",
            "µs/constraint",
        ] {
            assert!(page.contains(text), "{text}");
        }
        for text in ["<script", "http", "NaN", "inf"] {
            assert!(!page.contains(text), "{text}");
        }
    }

    #[test]
    fn no_rows_are_a_page_too() {
        assert!(!page(&Report::new(vec![])).contains("NaN"));
    }
}
