//! Filters: what is taken, what they mean, and that both ways of asking mean the same.

use super::*;
use proptest::prelude::*;

const ANY: Purpose = Purpose::S3 { dynamic_partitioning: true };

/// The answer as text: `name=value`, with `~` for null and `[]` for what is nested.
fn shown(asked: Result<(), FilterError>, answer: &Answer) -> Result<String, FilterError> {
    asked.map(|()| {
        let members = answer.members().map(|(name, value)| match value {
            Given::Null => format!("{name}=~"),
            Given::Nested => format!("{name}=[]"),
            Given::Text(text) => format!("{name}={text}"),
        });
        members.collect::<Vec<_>>().join(",")
    })
}

fn ask(query: &str, record: &str) -> Result<String, FilterError> {
    let filter = Filter::compile(query, ANY).unwrap();
    let mut answer = Answer::default();
    let asked = filter.ask(record.as_bytes(), &mut answer);
    shown(asked, &answer)
}

fn refusal(query: &str) -> String {
    Filter::compile(query, ANY).unwrap_err().to_string()
}

fn is_fast(query: &str) -> bool {
    matches!(*Filter::compile(query, ANY).unwrap().way, Way::Paths(_))
}

#[test]
fn objects_of_paths_and_literals_go_the_fast_way() {
    for query in [
        "{destinationDatabaseName:\"db\",destinationTableName:.deviceId,operation:\"insert\"}",
        "{a:.a.b.c}",
        "{a:.a[\"b c\"]}",
        "{a:.\"b c\"}",
        "{a:.a?}",
        "{a:.a?.b?}",
        "{\"a b\":.a, c:1, d:true, e:null}",
        "{a, \"b\"}",
        "{a:(.a // \"none\")}",
        " { a : .a } ",
    ] {
        assert!(is_fast(query), "{query}");
    }
    for query in [".", ".a", "{a:.a[0]}", "{a:(.a|length)}", "{(.a):1}", "{a:.a,a:.b}", "{a:.[]}"] {
        assert!(!Filter::compile(query, ANY).is_ok_and(|_| is_fast(query)), "{query}");
    }
}

#[test]
fn paths_mean_what_jq_says() {
    let record = r#"{"a":{"b":"x","n":null,"l":[1]},"t":"text","z":1.50,"a ":"sp","\u0061\"":1}"#;
    for (query, answer) in [
        ("{k:.a.b}", "k=x"),
        ("{k:.a.none}", "k=~"),
        ("{k:.a.n.deeper}", "k=~"),
        ("{k:.none.deeper}", "k=~"),
        ("{k:.a}", "k=[]"),
        ("{k:.a.l}", "k=[]"),
        ("{k:.z}", "k=1.5"),
        ("{k:.[\"a \"]}", "k=sp"),
        ("{k:.\"a\\\"\"}", "k=1"),
        ("{t}", "t=text"),
        ("{k:(.none // \"else\")}", "k=else"),
        ("{k:(.t // \"else\")}", "k=text"),
    ] {
        assert!(is_fast(query), "{query}");
        assert_eq!(ask(query, record).as_deref(), Ok(answer), "{query}");
    }
    assert!(matches!(ask("{k:.t.x}", record), Err(FilterError::Query(_))));
    assert_eq!(ask("{k:.t.x?}", record), Err(FilterError::Empty));
    // The last of two members of one name counts, with all that is below it.
    assert_eq!(ask("{k:.a.b}", r#"{"a":{"b":1},"a":{"c":2}}"#).as_deref(), Ok("k=~"));
    assert_eq!(ask("{k:.a.b}", r#"{"a":3,"a":{"b":2}}"#).as_deref(), Ok("k=2"));
    assert!(matches!(ask("{k:.a.b}", r#"{"a":{"b":2},"a":3}"#), Err(FilterError::Query(_))));
}

#[test]
fn other_filters_are_asked_too() {
    let record = r#"{"s":"Ab-1","n":3,"ts":1565382027,"l":["x","y"],"o":{"k":"v"},
        "time":"2026-01-31T12:00:00Z","deep":"{\"in\":7}"}"#;
    for (query, answer) in [
        ("{k:(.s|ascii_downcase)}", "k=ab-1"),
        ("{k:.l[0]}", "k=x"),
        ("{k:.l[-1]}", "k=y"),
        ("{k:(.l|join(\"/\"))}", "k=x/y"),
        ("{k:(.l|length)}", "k=2"),
        ("{k:(.n*2+1)}", "k=7"),
        ("{k:(.n/2)}", "k=1.5"),
        ("{year:(.ts|strftime(\"%Y\")),hour:(.ts|strftime(\"%H\"))}", "year=2019,hour=20"),
        ("{k:(.time|fromdate)}", "k=1769860800"),
        ("{k:(.time|strptime(\"%Y-%m-%dT%H:%M:%SZ\")|mktime|strftime(\"%d\"))}", "k=31"),
        ("{k:(if .n > 2 then \"big\" else \"small\" end)}", "k=big"),
        ("{k:\"t-\\(.n)-\\(.s)\"}", "k=t-3-Ab-1"),
        ("{k:(.s|split(\"-\")[1])}", "k=1"),
        ("{k:(.s|sub(\"-\";\"_\"))}", "k=Ab_1"),
        ("{k:(.s|test(\"^Ab\"))}", "k=true"),
        ("{k:(\"12\"|tonumber)}", "k=12"),
        ("{k:(.deep|fromjson|.in)}", "k=7"),
        ("{k:(.s|@base64)}", "k=QWItMQ=="),
        ("{k:([.l[]|select(.!=\"x\")]|first)}", "k=y"),
        (".o", "k=v"),
        ("{k:.n}+{j:.s}", "k=3,j=Ab-1"),
        ("{(.s):.n}", "Ab-1=3"),
        ("{k:(.x|tostring)}", "k=null"),
        ("{k:(.s|try error(\"no\") catch .)}", "k=no"),
        ("{k:(.o|to_entries|map(.key)|add)}", "k=k"),
        ("{k:([.l[]|length]|max)}", "k=1"),
        ("{k:(.s|capture(\"(?<w>[A-Z])\").w)}", "k=A"),
        ("{k:(.s | ltrimstr(\"Ab\") | . + \"!\")}", "k=-1!"),
    ] {
        assert_eq!(ask(query, record).as_deref(), Ok(answer), "{query}");
    }
    for (query, answer) in [
        (
            "{destinationDatabaseName:\"flights\",\
             destinationTableName:(\"flights_\"+(.s|ascii_downcase)),operation:\"insert\"}",
            "destinationDatabaseName=flights,destinationTableName=flights_ab-1,operation=insert",
        ),
        ("{s:.s,day:(.time|.[0:10])}", "s=Ab-1,day=2026-01-31"),
        ("{operation:(if .gone then \"delete\" else \"update\" end)}", "operation=update"),
        ("{y: .ts|strftime(\"%Y\"), m: .ts|strftime(\"%m\")}", "y=2019,m=08"),
        ("{k:(.ts|todate)}", "k=2019-08-09T20:20:27Z"),
    ] {
        assert_eq!(ask(query, record).as_deref(), Ok(answer), "{query}");
    }
    assert_eq!(ask(".n", record), Err(FilterError::NoObject));
    assert_eq!(ask("empty", record), Err(FilterError::Empty));
    assert_eq!(ask(".l[]|{k:.}", record), Err(FilterError::Many));
    assert!(matches!(ask("{k:(.s+1)}", record), Err(FilterError::Query(_))));
    assert!(matches!(ask("{k:(.s|tonumber)}", record), Err(FilterError::Query(_))));
    assert!(matches!(ask("error(\"no\")", record), Err(FilterError::Query(_))));
}

#[test]
fn what_is_not_bounded_is_refused_by_its_name() {
    for (query, named) in [
        ("{a:(last(range(1e18)))}", "last"),
        ("{a:[range(10)]}", "range"),
        ("{a:[recurse]}", "recurse"),
        ("{a:[..]}", ".."),
        ("{a:until(false;.)}", "until"),
        ("{a:[while(true;.)]}", "while"),
        ("{a:[repeat(.)]}", "repeat"),
        ("{a:[limit(3;.[])]}", "limit"),
        ("{a:(reduce .[] as $x (0;.+$x))}", "reduce"),
        ("{a:[foreach .[] as $x (0;.+$x)]}", "foreach"),
        ("def f: f; {a:f}", "def"),
        ("{a:(label $f|break $f)}", "label"),
        ("{a:env}", "env"),
        ("{a:$ENV}", "$ENV"),
        ("{a:$__loc__}", "$__loc__"),
        ("{a:(. as $x|$x)}", "as"),
        ("{a:now}", "now"),
        ("{a:input}", "input"),
        ("{a:halt}", "halt"),
        ("{a:halt_error}", "halt_error"),
        ("{a:debug}", "debug"),
        ("{a:stderr}", "stderr"),
        ("{a:localtime}", "localtime"),
        ("{a:(.a|=1)}", "assignment"),
        ("{a:(.a=1)}", "assignment"),
        ("{a:(.a+=1)}", "assignment"),
        ("{a:(.a*.b)}", "product"),
        ("{a:(\"x\"*3000000000)}", "bytes for each"),
        ("{a:.a[.b]}", "index"),
        ("{a:(.a|split(.b))}", "split"),
        ("{a:.[],b:.[]}", "more than one output"),
        ("{a:[.[]+.[]]}", "more than one output"),
        ("{a:(.a|walk(.))}", "walk"),
        ("{a:(.a|test(\"(x{50}){50}\"))}", "pattern"),
        ("{a:([.[]]|combinations)}", "combinations"),
        ("{a:getpath([\"a\"])}", "getpath"),
        ("{a:@evil}", "@evil"),
        ("{a:nosuch}", "nosuch"),
    ] {
        let message = refusal(query);
        assert!(message.contains(named), "{query}: {message}");
    }
    // What grows step by step is told before any record is there.
    let doubled = vec![".+."; 40].join("|");
    assert!(refusal(&format!("{{a:(.a|{doubled})}}")).contains("bytes for each"));
    let quoted = vec!["tojson"; 40].join("|");
    assert!(refusal(&format!("{{a:(.a|{quoted})}}")).contains("bytes for each"));
}

#[test]
fn what_is_no_filter_is_refused() {
    for bad in ["", "{", "{a:.a", ".a.", "{a:}", "a b", "1 +", "\"\\x\"", "{a:.a}}", "💣", "."] {
        if bad != "." {
            refusal(bad);
        }
    }
    for deep in ["(", "[", "{a:", "- ", "try ", "\"\\(", ".a|", "1+", "not|", "if "] {
        refusal(&deep.repeat(5120 / deep.len()));
    }
    let chain = |one: &str, times: usize| vec![one; times].join("|");
    assert!(refusal(&format!("{{a:({})}}", chain("not", 1000))).contains("levels"));
    assert!(Filter::compile(&format!("{{a:({})}}", chain("not", 30)), ANY).is_ok());
    refusal(&"x".repeat(30_000));
}

#[test]
fn a_record_that_is_too_large_or_deep_for_a_filter_fails_alone() {
    let deep = "[".repeat(100_000) + &"]".repeat(100_000);
    for query in ["{a:.a}", "{a:(.a|length)}"] {
        assert_eq!(ask(query, &deep), Err(FilterError::TooDeep), "{query}");
    }
    let text = format!(r#"{{"a":"{}"}}"#, "x".repeat(900_000));
    assert_eq!(ask("{a:(.a*1000|length)}", &text), Err(FilterError::TooLarge));
    assert_eq!(ask("{a:(.a*10|length)}", &text).as_deref(), Ok("a=9000000"));
    let inner = format!(r#"{{"a":"{}"}}"#, "[".repeat(100_000));
    assert!(matches!(ask("{a:(.a|fromjson)}", &inner), Err(FilterError::Query(_))));
    assert!(matches!(ask("{a:(.a|tonumber)}", &inner), Err(FilterError::Query(_))));
    let many: Vec<String> = (0..51).map(|key| format!("\"k{key}\":1")).collect();
    assert_eq!(ask(".", &format!("{{{}}}", many.join(","))), Err(FilterError::TooManyKeys));
}

#[test]
fn large_arrays_are_joined_in_time_that_grows_with_them() {
    let elements = vec!["\"some text\""; 80_000].join(",");
    let record = format!("{{\"l\":[{elements}]}}");
    for (query, size) in [
        ("{k:(.l|join(\",\")|length)}", 9 * 80_000 + 79_999),
        ("{k:(.l|add|length)}", 9 * 80_000),
        ("{k:(.l|unique|length)}", 1),
        ("{k:(.l|map(length)|add)}", 9 * 80_000),
    ] {
        assert_eq!(ask(query, &record), Ok(format!("k={size}")), "{query}");
    }
}

/// Both ways, where the filter is of the fast one's form.
fn both(query: &str, record: &str) -> [Result<String, FilterError>; 2] {
    [true, false].map(|fast| {
        let (way, _) = compile(query, fast).unwrap();
        let mut answer = Answer::default();
        let asked = match &way {
            Way::Paths(paths) => paths.ask(record.as_bytes(), &mut answer),
            Way::Interpreter(interpreter) => interpreter.ask(record.as_bytes(), &mut answer),
        };
        // The words of an error may differ.
        let asked = asked.map_err(|error| match error {
            FilterError::Query(_) => FilterError::Query(String::new()),
            other => other,
        });
        shown(asked, &answer)
    })
}

fn name() -> impl Strategy<Value = String> {
    proptest::sample::select(vec!["a", "b", "c", "é", "a b", "\\u0061", "a\\\"b", ""])
        .prop_map(String::from)
}

fn json() -> impl Strategy<Value = String> {
    let leaf = proptest::sample::select(vec![
        "null",
        "true",
        "false",
        "0",
        "-1",
        "1.50",
        "1e400",
        "9007199254740993",
        "-0",
        "123456789012345678901234567890",
        "\"\"",
        "\"x\"",
        "\"\\u00fc\\n\"",
        "\"\\ud83d\\ude00\"",
        "\"a",
        "01",
        "{",
        "\"\\ud800\"",
        "nul",
    ])
    .prop_map(String::from);
    leaf.prop_recursive(4, 32, 4, |inner| {
        let members =
            proptest::collection::vec((name(), inner.clone()), 0..5).prop_map(|members| {
                let members: Vec<_> =
                    members.iter().map(|(k, v)| format!("\"{k}\": {v}")).collect();
                format!("{{{}}}", members.join(" , "))
            });
        let elements = proptest::collection::vec(inner, 0..3)
            .prop_map(|elements| format!("[{}]", elements.join(",")));
        prop_oneof![4 => members, 1 => elements]
    })
}

fn path() -> impl Strategy<Value = String> {
    let part = (
        proptest::sample::select(vec![".a", ".b", ".\"a b\"", ".\"é\"", ".\"a\\\"b\""]),
        proptest::bool::weighted(0.3),
    );
    proptest::collection::vec(part, 1..4).prop_map(|parts| {
        parts.iter().map(|(part, opt)| format!("{part}{}", if *opt { "?" } else { "" })).collect()
    })
}

fn filter() -> impl Strategy<Value = String> {
    let value = prop_oneof![
        4 => path(),
        1 => proptest::sample::select(vec!["\"lit\"", "1", "true", "null", "\"\\n\""])
            .prop_map(String::from),
        1 => (path(), proptest::sample::select(vec!["\"else\"", "7", "null", "false"]))
            .prop_map(|(path, literal)| format!("({path} // {literal})")),
    ];
    proptest::collection::vec(value, 1..5).prop_map(|values| {
        let members: Vec<_> =
            values.iter().enumerate().map(|(at, value)| format!("k{at}: {value}")).collect();
        format!("{{{}}}", members.join(", "))
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn the_fast_way_means_what_jaq_means(query in filter(), record in json()) {
        let [fast, slow] = both(&query, &record);
        prop_assert_eq!(fast, slow, "{} of {}", query, record);
    }
}
