//! Pictures of `wal/append`: throughput and ratio over the number of appenders, one file a size.
//!
//! *Owns*: which rows become which line.
//! *Does not own*: the numbers.
//!
//! *IO: driver (files)*

use std::collections::BTreeMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

use plotters::coord::Shift;
use plotters::prelude::*;
use serde_json::Value;

use crate::summary::Row;

const SIZE: (u32, u32) = (1280, 560);
const COLOURS: [RGBColor; 12] = [
    RGBColor(0x1b, 0x5e, 0x9b),
    RGBColor(0xd9, 0x5f, 0x02),
    RGBColor(0x1b, 0x9e, 0x77),
    RGBColor(0x75, 0x70, 0xb3),
    RGBColor(0xc5, 0x1b, 0x7d),
    RGBColor(0x66, 0x66, 0x66),
    RGBColor(0xa6, 0x76, 0x1d),
    RGBColor(0x00, 0x00, 0x00),
    RGBColor(0x66, 0xa6, 0x1e),
    RGBColor(0xe7, 0x29, 0x2b),
    RGBColor(0x17, 0xbe, 0xcf),
    RGBColor(0xe6, 0xab, 0x02),
];

/// Appenders, operations a second, part of the limit.
type Point = (f64, f64, Option<f64>);
type Lines = BTreeMap<String, Vec<Point>>;
type Panel<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Drawn = Result<(), DrawingAreaErrorKind<io::Error>>;

/// Draws the rows of `wal/append` that name a size, and answers which files it wrote to `folder`.
///
/// # Errors
/// The folder or a file cannot be written.
pub fn plot_appends(rows: &[Row], folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut pictures: BTreeMap<(String, u64), Lines> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.bench == "wal/append") {
        let number = |name: &str| row.params.get(name).and_then(Value::as_u64);
        let (Some(size), Some(appenders)) = (number("size"), number("appenders")) else {
            continue;
        };
        let point = (appenders as f64, row.rounds.median(), row.ratio());
        // What waits for a network is drawn apart from what waits for a device.
        let far = number("latency_ms").is_some();
        let name = if far {
            "wal-append-object"
        } else {
            "wal-append"
        };
        let lines = pictures.entry((name.to_owned(), size)).or_default();
        lines.entry(label(&row.params)).or_default().push(point);
    }
    std::fs::create_dir_all(folder)?;
    let mut files = Vec::new();
    for ((name, size), lines) in pictures {
        let path = folder.join(format!("{name}-{size}.svg"));
        draw(&path, size, &lines).map_err(|cause| io::Error::other(cause.to_string()))?;
        files.push(path);
    }
    Ok(files)
}

/// The words among the parameters: the kind of WAL, and who appends.
fn label(params: &Value) -> String {
    let values = params.as_object().into_iter().flatten();
    let words = values.filter_map(|(name, value)| match value {
        Value::String(word) => Some((name != "wal", word.clone())),
        Value::Number(number) if name == "latency_ms" => Some((true, format!("{number} ms"))),
        _ => None,
    });
    let mut words: Vec<_> = words.collect();
    words.sort();
    let words: Vec<_> = words.into_iter().map(|(_, word)| word).collect();
    words.join(" ")
}

fn draw(path: &Path, size: u64, lines: &Lines) -> Drawn {
    let all = SVGBackend::new(path, SIZE).into_drawing_area();
    all.fill(&WHITE)?;
    let panels = all.split_evenly((1, 2));
    let points = || lines.values().flatten();
    let appenders = bounds(points().map(|point| point.0), 1.2);
    let throughput = bounds(points().map(|point| point.1), 2.0);
    let most = points().filter_map(|point| point.2).fold(1.0, f64::max);
    let title = format!("durable appends of {size} bytes a second");
    let mut left = ChartBuilder::on(&panels[0])
        .caption(title, ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(72)
        .build_cartesian_2d(appenders.clone().log_scale(), throughput.log_scale())?;
    left.configure_mesh().x_desc("appenders").draw()?;
    for (number, (label, points)) in lines.iter().enumerate() {
        let style = style(number);
        let points: Vec<_> = points.iter().map(|(x, y, _)| (*x, *y)).collect();
        left.draw_series(LineSeries::new(points, style).point_size(3))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], style));
    }
    left.configure_series_labels()
        .position(SeriesLabelPosition::LowerRight)
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .draw()?;
    draw_ratios(&panels[1], lines, appenders, most * 1.1)?;
    all.present()
}

fn draw_ratios(panel: &Panel<'_>, lines: &Lines, appenders: Range<f64>, most: f64) -> Drawn {
    let mut chart = ChartBuilder::on(panel)
        .caption("as a part of the raw limit", ("sans-serif", 18))
        .margin(12)
        .x_label_area_size(36)
        .y_label_area_size(48)
        .build_cartesian_2d(appenders.clone().log_scale(), 0.0..most)?;
    chart.configure_mesh().x_desc("appenders").draw()?;
    let limit = [(appenders.start, 1.0), (appenders.end, 1.0)];
    chart.draw_series(LineSeries::new(limit, BLACK.mix(0.5)))?;
    for (number, points) in lines.values().enumerate() {
        let points: Vec<_> = points
            .iter()
            .filter_map(|(x, _, ratio)| ratio.map(|ratio| (*x, ratio)))
            .collect();
        chart.draw_series(LineSeries::new(points, style(number)).point_size(3))?;
    }
    Ok(())
}

fn style(number: usize) -> ShapeStyle {
    COLOURS[number % COLOURS.len()].filled().stroke_width(2)
}

/// From a little below the least to a little above the greatest; positive, for a logarithm.
fn bounds(values: impl Iterator<Item = f64>, factor: f64) -> Range<f64> {
    let (least, most) = values.fold((f64::MAX, 1.0), |(least, most), value| {
        (value.max(0.1).min(least), value.max(most))
    });
    least.min(most) / factor..most * factor
}

#[cfg(test)]
mod tests {
    use super::{label, plot_appends};
    use crate::{Rounds, Row};
    use serde_json::json;

    fn row(params: serde_json::Value, value: f64) -> Row {
        let mut rounds = Rounds::default();
        rounds.push(value);
        Row::new("wal/append", params, "throughput", "ops/s", rounds)
    }

    #[test]
    fn each_size_gets_a_picture_with_every_line_named() {
        let folder = tempfile::tempdir().unwrap();
        let mut limit = Rounds::default();
        limit.push(2e4);
        let rows = [
            row(json!({"wal": "device", "size": 1024, "appenders": 1}), 1e4)
                .with_limit("raw".to_owned(), &limit),
            row(json!({"wal": "device", "size": 1024, "appenders": 64}), 1e5),
            row(
                json!({"wal": "file-lock", "size": 128, "appenders": 8, "by": "threads"}),
                9.0,
            ),
        ];
        let files = plot_appends(&rows, folder.path()).unwrap();
        let read = |at: usize| std::fs::read_to_string(&files[at]).unwrap();
        assert_eq!(files.len(), 2);
        assert!(read(0).contains("file-lock threads") && read(0).contains("128 bytes"));
        assert!(read(1).contains("device") && !read(1).contains("file-lock"));
    }

    #[test]
    fn a_label_begins_with_the_wal() {
        let params = json!({"by": "threads", "latency_ms": 20, "size": 1, "wal": "object"});
        assert_eq!(label(&params), "object 20 ms threads");
    }
}
