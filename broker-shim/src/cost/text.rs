//! The cost as scripts and as people read it.
//!
//! *Owns*: the names in the JSON (docs/operations.md), the tables.
//! *Does not own*: the numbers.
//!
//! *IO: none*

use std::fmt::Write;

use serde_json::{Value, json};

use super::prices::Prices;
use super::usage::{GIB, MONTH_S, Usage};

/// One JSON object. `compacted` is what of the month comes from compaction.
pub(super) fn as_json(month: &Usage, compacted: &Usage, stores: &[Prices]) -> Value {
    let produced_gib = month.produced_bytes / GIB;
    let per_gib = |count: f64| (produced_gib > 0.0).then(|| count / produced_gib);
    let requests = month.requests().map(|(op, purpose, count)| {
        json!({
            "op": op, "purpose": purpose, "per_month": count, "per_gib": per_gib(count),
        })
    });
    let bytes = month.bytes().map(|(direction, purpose, bytes)| {
        json!({
            "direction": direction, "purpose": purpose, "gib_per_month": bytes / GIB,
            "per_byte_produced": per_gib(bytes / GIB),
        })
    });
    let bills = stores.iter().map(|store| {
        let bill = store.bill(month);
        json!({
            "store": store.name, "title": store.title, "region": store.region, "date": store.date,
            "source": store.source, "currency": store.currency, "requests": bill.requests,
            "transfer": bill.transfer, "storage": bill.storage, "per_month": bill.total(),
            "compaction": store.bill(compacted).total(),
            "requests_per_gib": per_gib(bill.requests),
        })
    });
    json!({
        "produced_gib_per_month": produced_gib,
        "stored_gib": month.stored_bytes / GIB,
        "requests": requests.collect::<Vec<_>>(),
        "bytes": bytes.collect::<Vec<_>>(),
        "compaction": {
            "requests_per_gib": per_gib(compacted.num_requests()),
            "bytes_out_per_byte": per_gib(compacted.bytes_out() / GIB),
            "bytes_in_per_byte": per_gib(compacted.bytes_in() / GIB),
        },
        "stores": bills.collect::<Vec<_>>(),
    })
}

/// Tables for people.
pub(super) fn as_text(month: &Usage, compacted: &Usage, stores: &[Prices]) -> String {
    let produced_gib = month.produced_bytes / GIB;
    let mut text = String::new();
    let _ = writeln!(
        text,
        "produced   {produced_gib:.1} GiB a month ({:.3} MiB/s)\nstored     {:.1} GiB\n",
        month.produced_bytes / super::usage::MIB / MONTH_S,
        month.stored_bytes / GIB
    );
    let _ = writeln!(text, "requests   purpose         a month      a GiB");
    for (op, purpose, count) in month.requests() {
        let per_gib = per_gib(count, produced_gib);
        let _ = writeln!(text, "{op:<10} {purpose:<10} {count:>12.0} {per_gib:>10}");
    }
    let _ = writeln!(text, "\nbytes      purpose     GiB a month   a byte");
    for (direction, purpose, bytes) in month.bytes() {
        let gib = bytes / GIB;
        let per_byte = per_gib(gib, produced_gib);
        let _ = writeln!(
            text,
            "{direction:<10} {purpose:<10} {gib:>12.1} {per_byte:>8}"
        );
    }
    let _ = writeln!(
        text,
        "\ncompaction {} requests a GiB of these, {} bytes sent and {} read for a byte produced",
        per_gib(compacted.num_requests(), produced_gib),
        per_gib(compacted.bytes_out() / GIB, produced_gib),
        per_gib(compacted.bytes_in() / GIB, produced_gib)
    );
    text.push_str(
        "\nstore                          requests   transfer    storage    a month of it compaction\n",
    );
    for store in stores {
        let bill = store.bill(month);
        let _ = writeln!(
            text,
            "{:<28} {:>10.2} {:>10.2} {:>10.2} {:>10.2} {:>16.2} {}",
            store.title,
            bill.requests,
            bill.transfer,
            bill.storage,
            bill.total(),
            store.bill(compacted).total(),
            store.currency
        );
    }
    text.push_str("\nList prices, to be checked before they are trusted:\n");
    for store in stores {
        let Prices {
            title,
            region,
            date,
            source,
            ..
        } = store;
        let _ = writeln!(text, "  {title}, {region}, {date}: {source}");
    }
    text
}

fn per_gib(count: f64, produced_gib: f64) -> String {
    if produced_gib > 0.0 {
        format!("{:.2}", count / produced_gib)
    } else {
        "-".to_owned()
    }
}
