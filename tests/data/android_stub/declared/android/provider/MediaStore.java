package android.provider;

import android.content.ContentResolver;
import android.graphics.Bitmap;
import android.net.Uri;

public final class MediaStore {
    public static final class Images {
        public static final class Media {
            @Deprecated
            public static final Bitmap getBitmap(ContentResolver resolver, Uri url) { return null; }
        }
    }
}
