//! The schema compiler refuses bad schemas with file and line.
//!
//! *Owns*: one case for each rule of `build/parse.rs` and `build/check.rs`. The modules of the build
//! script are compiled into this test, since a build script cannot be tested on its own.
//!
//! *Does not own*: the generated code.
//!
//! *IO: none*

#[path = "../build/check.rs"]
mod check;
#[allow(dead_code, reason = "the emitters are not compiled into this test")]
#[path = "../build/error_codes.rs"]
mod error_codes;
#[allow(dead_code, reason = "the emitters are not compiled into this test")]
#[path = "../build/model.rs"]
mod model;
#[path = "../build/names.rs"]
mod names;
#[path = "../build/parse.rs"]
mod parse;
#[allow(dead_code, reason = "the emitters are not compiled into this test")]
#[path = "../build/sizes.rs"]
mod sizes;

fn compile(text: &str) -> Result<Vec<model::Message>, String> {
    let run = || {
        let messages = parse::parse("x.schema", text)?;
        check::check_all(&messages)?;
        Ok(messages)
    };
    run().map_err(|error: model::SchemaError| error.to_string())
}

#[track_caller]
fn refused(text: &str, expected: &str) {
    match compile(text) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => assert_eq!(error, expected),
    }
}

/// One data message with these lines below its head, which is line 1.
#[track_caller]
fn refused_body(body: &str, expected: &str) {
    refused(
        &format!("data M versions=0-3 flexible=2+\n{body}"),
        expected,
    );
}

#[test]
fn a_sound_schema_compiles() {
    let text = "# comment\n\ndata Top versions=0-3 flexible=2+\n  Name string 0+ null=1+ default=null\n  \
                Items []Item 0+\n    Id int32 0+ default=-1\n  Extra int64 2+ tag=0@2+\n";
    let messages = compile(text).unwrap();
    assert_eq!(messages.len(), 1);
    assert_eq!(messages[0].structs.len(), 2);
    assert_eq!(
        sizes::min_struct(&messages[0], &messages[0].structs[0], 0),
        2 + 4
    );
    assert_eq!(
        sizes::min_struct(&messages[0], &messages[0].structs[0], 2),
        1 + 1 + 1
    );
}

#[test]
fn bad_syntax_names_file_and_line() {
    refused(
        "  Name string 0+",
        "x.schema:1: a message must start at the left margin",
    );
    refused(
        "thing M versions=0 flexible=none",
        "x.schema:1: expected request, response or data, found `thing`",
    );
    refused(
        "data M flexible=none",
        "x.schema:1: expected versions=VERSIONS, found `flexible=none`",
    );
    refused(
        "request x M versions=0 flexible=none",
        "x.schema:1: expected a number for the api key, found `x`",
    );
    refused(
        "data M versions=3-1 flexible=none",
        "x.schema:1: version range `3-1` runs backwards",
    );
    refused_body(
        " Name string 0+",
        "x.schema:2: indentation must be a multiple of two spaces",
    );
    refused_body(
        "    Name string 0+",
        "x.schema:2: expected 2 spaces before this line",
    );
    refused_body(
        "  name string 0+",
        "x.schema:2: expected a CamelCase name, found `name`",
    );
    refused_body("  Name text 0+", "x.schema:2: unknown type `text`");
    refused_body(
        "  Name [][]int8 0+",
        "x.schema:2: an array of arrays does not exist on the wire",
    );
    refused_body(
        "  Name int8 0+ ignorabel",
        "x.schema:2: unknown attribute `ignorabel`",
    );
    refused_body(
        "  Name int8 2+ tag=0",
        "x.schema:2: a tag is written tag=NUMBER@VERSIONS",
    );
    refused_body(
        "  Name int8 0+\n    Sub int8 0+",
        "x.schema:3: only a struct can have fields below it",
    );
}

#[test]
fn unsound_schemas_name_file_and_line() {
    refused_body(
        "  A int8 0+\n  A int8 0+",
        "x.schema:3: field A is defined twice",
    );
    refused_body("  A []B 0+", "x.schema:2: unknown struct B");
    refused_body(
        "  A int8 0+ null=0+",
        "x.schema:2: this type has no null on the wire",
    );
    refused_body(
        "  A int8 0+ default=300",
        "x.schema:2: `300` is no default here",
    );
    refused_body(
        "  A string 0+ default=null",
        "x.schema:2: `null` is no default here",
    );
    refused_body("  A int8 2+ tag=1@2+", "x.schema:2: expected tag 0 here");
    let tags = "x.schema:2: tagged versions must be flexible and reach to the field's last version";
    refused_body("  A int8 1+ tag=0@1+", tags);
    refused_body("  A int8 2+ tag=0@2", tags);
    refused_body(
        "  A B 0+ null=1+\n    C int8 0+",
        "x.schema:2: a nullable struct must be nullable in all of its versions",
    );
    refused_body(
        "  A []B 0+\n    C int8 2+",
        "x.schema:2: struct B has no bytes in version 0",
    );
    refused_body(
        "  A int8 0+\n  struct B 0+\n    C int8 0+",
        "x.schema:3: struct B is never used",
    );
    refused_body(
        "  A []B 0+\n    C []B 0+",
        "x.schema:2: structs nest deeper than 8, or contain themselves",
    );
    refused(
        "data M versions=none flexible=none",
        "x.schema:1: a message needs at least one version",
    );
    refused(
        "data M versions=0-3 flexible=1-2",
        "x.schema:1: flexible versions must reach to the last version",
    );
    let twice = "data M versions=0 flexible=none\ndata M versions=0 flexible=none";
    refused(twice, "x.schema:2: message M is defined twice");
}

#[test]
fn requests_and_responses_come_in_pairs() {
    let request = "request 1 ARequest versions=0-3 flexible=none\n";
    refused(
        request,
        "x.schema:1: ARequest has no partner with equal versions",
    );
    let odd = format!("{request}response 1 AResponse versions=0-2 flexible=none");
    refused(
        &odd,
        "x.schema:1: ARequest has no partner with equal versions",
    );
    refused(
        "request 1 A versions=0 flexible=none",
        "x.schema:1: the name must end in Request",
    );
    let double = format!("{request}request 1 BRequest versions=0-3 flexible=none");
    refused(
        &double,
        "x.schema:1: another message has the same kind and api key",
    );
    assert!(
        compile(&format!(
            "{request}response 1 AResponse versions=0-3 flexible=none"
        ))
        .is_ok()
    );
}

#[test]
fn error_code_lists_are_checked() {
    let refused = |text: &str| {
        error_codes::parse("codes", text)
            .err()
            .map(|e| e.to_string())
    };
    assert_eq!(refused("1 A\n2 B retriable\n"), None);
    assert_eq!(
        refused("1 A\n1 B"),
        Some("codes:2: 1 B is listed twice".to_owned())
    );
    assert_eq!(refused("x A"), Some("codes:1: bad code `x`".to_owned()));
    assert_eq!(refused("1 a"), Some("codes:1: bad name `a`".to_owned()));
    assert_eq!(
        refused("1 A again"),
        Some("codes:1: expected CODE NAME [retriable]".to_owned())
    );
}

#[test]
fn names_become_snake_case() {
    assert_eq!(names::snake("TimeoutMs"), "timeout_ms");
    assert_eq!(names::snake("KRaftVersionRecord"), "k_raft_version_record");
    assert_eq!(names::snake("Enable2Pc"), "enable2_pc");
    assert_eq!(names::field("Type"), "type_");
}
