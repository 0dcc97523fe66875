//! What an implementation that takes objects in parts must do.
//!
//! *Owns*: the checks of the multipart requests.
//! *Does not own*: the rest of the suite, faults.
//!
//! *IO: none*

use bytes::Bytes;

use super::attempts::{ATTEMPTS_MAX, PURPOSE, create, get, list, settled, size};
use crate::port::{Bucket, BucketError, MultipartId, Part, PartTag};

/// Runs all checks of objects in parts, if the store takes any.
pub(super) async fn run(bucket: &dyn Bucket, prefix: &str) {
    let Some(limits) = bucket.multipart() else {
        refused_where_there_are_none(bucket, prefix).await;
        return;
    };
    assert!(limits.parts_max >= 1 && limits.part_bytes_min <= limits.part_bytes_max);
    let part_bytes = usize::try_from(limits.part_bytes_min).expect("a part fits memory");
    parts_become_one_object(bucket, prefix, part_bytes).await;
    a_taken_key_is_not_completed(bucket, prefix).await;
    a_given_up_upload_is_gone(bucket, prefix).await;
    ranges_are_copied(bucket, prefix, part_bytes).await;
}

async fn refused_where_there_are_none(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/parts/none");
    let refused = bucket.create_multipart(PURPOSE, &key).await;
    assert!(
        matches!(refused, Err(BucketError::Refused { .. })),
        "{refused:?}"
    );
}

/// Parts come in any order, a second one of a number replaces the first, and nothing is there
/// before the completion, which may be repeated.
async fn parts_become_one_object(bucket: &dyn Bucket, prefix: &str, part_bytes: usize) {
    let key = format!("{prefix}/parts/whole");
    let bodies: [Vec<u8>; 3] = [vec![1; part_bytes], vec![2; part_bytes + 1], vec![3; 7]];
    let upload = start(bucket, &key).await;
    let mut tags = Vec::new();
    for at in [2, 0, 1] {
        let number = at as u32 + 1;
        if at == 0 {
            put(bucket, &key, &upload, number, vec![9; part_bytes]).await;
        }
        tags.push(put(bucket, &key, &upload, number, bodies[at].clone()).await);
    }
    tags.sort_by_key(|tag| tag.number);
    let absent = Err(BucketError::Absent { key: key.clone() });
    assert_eq!(get(bucket, &key, None).await, absent);
    assert_eq!(list(bucket, &format!("{prefix}/parts/")).await, []);
    assert_eq!(complete(bucket, &key, &upload, &tags).await, Ok(()));
    let whole = bodies.concat();
    assert_eq!(size(bucket, &key).await, Ok(whole.len() as u64));
    assert!(get(bucket, &key, None).await.expect("get") == whole);
    let again = complete(bucket, &key, &upload, &tags).await;
    assert!(
        matches!(
            again,
            Ok(()) | Err(BucketError::Absent { .. } | BucketError::Exists { .. })
        ),
        "a repeated completion: {again:?}"
    );
    assert!(get(bucket, &key, None).await.expect("get") == whole);
    let listed = list(bucket, &format!("{prefix}/parts/")).await;
    assert_eq!(listed.len(), 1, "{listed:?}");
}

/// Of a created object and an upload, and of two uploads, the first one has the key.
async fn a_taken_key_is_not_completed(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/parts/taken");
    let (first, second) = (start(bucket, &key).await, start(bucket, &key).await);
    let of_first = [put(bucket, &key, &first, 1, b"first".to_vec()).await];
    let of_second = [put(bucket, &key, &second, 1, b"second".to_vec()).await];
    assert_eq!(complete(bucket, &key, &first, &of_first).await, Ok(()));
    let exists = Err(BucketError::Exists { key: key.clone() });
    assert_eq!(complete(bucket, &key, &second, &of_second).await, exists);
    let created = create(bucket, &key, vec![Bytes::from_static(b"third")]).await;
    assert_eq!(created, exists);
    assert_eq!(
        get(bucket, &key, None).await,
        Ok(Bytes::from_static(b"first"))
    );
    abort(bucket, &key, &second).await.expect("abort");
}

async fn a_given_up_upload_is_gone(bucket: &dyn Bucket, prefix: &str) {
    let key = format!("{prefix}/parts/given-up");
    let upload = start(bucket, &key).await;
    let tags = [put(bucket, &key, &upload, 1, b"part".to_vec()).await];
    abort(bucket, &key, &upload).await.expect("abort");
    let absent = BucketError::Absent { key: key.clone() };
    let outcome = complete(bucket, &key, &upload, &tags).await;
    assert_eq!(outcome, Err(absent.clone()));
    let part = Part {
        key: &key,
        upload: &upload,
        number: 1,
    };
    let late = bucket.put_part(PURPOSE, part, vec![]).await;
    assert_eq!(late, Err(absent.clone()));
    let again = abort(bucket, &key, &upload).await;
    assert!(again == Ok(()) || again == Err(absent.clone()), "{again:?}");
    assert_eq!(get(bucket, &key, None).await, Err(absent));
}

async fn ranges_are_copied(bucket: &dyn Bucket, prefix: &str, part_bytes: usize) {
    let (source, key) = (
        format!("{prefix}/parts/source"),
        format!("{prefix}/parts/copy"),
    );
    let body: Vec<u8> = (0..=250).cycle().take(part_bytes + 1_000).collect();
    create(bucket, &source, vec![Bytes::from(body.clone())])
        .await
        .expect("create");
    let upload = start(bucket, &key).await;
    let upload = &upload;
    let part = |number| Part {
        key: &key,
        upload,
        number,
    };
    let copy = async |number, range: std::ops::Range<usize>| {
        let range = range.start as u64..range.end as u64;
        settled!(bucket.copy_part(PURPOSE, part(number), &source, range.clone()))
    };
    let tags = [
        copy(1, 100..part_bytes + 100).await.expect("copy"),
        put(bucket, &key, upload, 2, vec![7; part_bytes]).await,
        copy(3, 3..4).await.expect("copy"),
    ];
    let beyond = copy(4, 0..body.len() + 1).await;
    assert!(
        matches!(
            beyond,
            Err(BucketError::Refused { .. } | BucketError::Short { .. })
        ),
        "{beyond:?}"
    );
    complete(bucket, &key, upload, &tags)
        .await
        .expect("complete");
    let wanted = [
        &body[100..part_bytes + 100],
        &vec![7; part_bytes],
        &body[3..4],
    ]
    .concat();
    assert!(get(bucket, &key, None).await.expect("get") == wanted);
    assert_eq!(get(bucket, &source, None).await, Ok(Bytes::from(body)));
}

async fn start(bucket: &dyn Bucket, key: &str) -> MultipartId {
    settled!(bucket.create_multipart(PURPOSE, key)).unwrap_or_else(|e| panic!("start {key}: {e}"))
}

async fn put(
    bucket: &dyn Bucket,
    key: &str,
    upload: &MultipartId,
    number: u32,
    body: Vec<u8>,
) -> PartTag {
    let part = Part {
        key,
        upload,
        number,
    };
    let (front, back) = body.split_at(body.len() / 2);
    let body = [Bytes::copy_from_slice(front), Bytes::copy_from_slice(back)];
    settled!(bucket.put_part(PURPOSE, part, body.to_vec()))
        .unwrap_or_else(|e| panic!("part {number} of {key}: {e}"))
}

async fn complete(
    bucket: &dyn Bucket,
    key: &str,
    upload: &MultipartId,
    tags: &[PartTag],
) -> Result<(), BucketError> {
    settled!(bucket.complete_multipart(PURPOSE, key, upload, tags))
}

async fn abort(bucket: &dyn Bucket, key: &str, upload: &MultipartId) -> Result<(), BucketError> {
    settled!(bucket.abort_multipart(PURPOSE, key, upload))
}
